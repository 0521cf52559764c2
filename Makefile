# The two commands: `make run` and `make test`.  Everything else is in CONTRIBUTING.md.
.PHONY: run test lint format bench clean setup

setup:
	@tools/setup

run: setup
	@.venv/bin/python tools/demo.py

test:
	@tools/setup --test
	@tools/test

lint:
	@tools/setup --test
	@tools/lint

format:
	@tools/setup --test
	@tools/lint --fix

bench:
	@tools/setup --test
	@.venv/bin/pytest --benchmark

clean:
	rm -rf build .venv
