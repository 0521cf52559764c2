"""fastdock: the container engine that you can ``pip install``."""
