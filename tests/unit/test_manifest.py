"""Manifests and configurations: foreign JSON, and CVE-2021-41190."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastdock._errors import ImageError
from fastdock.store import manifest as m

DIGEST = "sha256:" + "0" * 64
CONFIG = {"mediaType": m.OCI_CONFIG, "digest": DIGEST, "size": 2}
LAYER = {"mediaType": m.OCI_LAYER + "+gzip", "digest": DIGEST, "size": 3}
MANIFEST = {"schemaVersion": 2, "mediaType": m.OCI_MANIFEST, "config": CONFIG, "layers": [LAYER]}
INDEX = {"schemaVersion": 2, "mediaType": m.OCI_INDEX, "manifests": [{**CONFIG, "mediaType": m.OCI_MANIFEST}]}
IMAGE = {"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": [DIGEST]}}


def encoded(document):
    return json.dumps(document).encode()


def without(document, key):
    return {name: value for name, value in document.items() if name != key}


def test_manifest_and_index_are_told_apart():
    """The announced media type picks the shape that is checked."""
    assert isinstance(m.parse_manifest(encoded(MANIFEST), m.OCI_MANIFEST), m.Manifest)
    assert isinstance(m.parse_manifest(encoded(INDEX), m.OCI_INDEX), m.Index)
    untyped = m.parse_manifest(encoded(without(MANIFEST, "mediaType")), m.OCI_MANIFEST + "; charset=utf-8")
    assert untyped.media_type == m.OCI_MANIFEST


@pytest.mark.parametrize(
    ("document", "announced"),
    [
        (INDEX, m.OCI_MANIFEST),
        (MANIFEST, m.OCI_INDEX),
        (MANIFEST, m.DOCKER_MANIFEST),
        ({**MANIFEST, "manifests": []}, m.OCI_MANIFEST),
        ({**INDEX, "layers": []}, m.OCI_INDEX),
        ({**INDEX, "config": CONFIG}, m.OCI_INDEX),
        ({**MANIFEST, "fsLayers": []}, m.OCI_MANIFEST),
        ({**without(MANIFEST, "mediaType"), "manifests": INDEX["manifests"]}, ""),
        (without(without(INDEX, "mediaType"), "x"), m.OCI_MANIFEST),
        ({**MANIFEST, "mediaType": 7}, m.OCI_MANIFEST),
    ],
)
def test_ambiguous_documents_are_refused(document, announced):
    """A document that two readers could take for two images is taken for none (CVE-2021-41190)."""
    with pytest.raises(ImageError):
        m.parse_manifest(encoded(document), announced)


@pytest.mark.parametrize(
    "document",
    [
        {**MANIFEST, "schemaVersion": 1},
        {**MANIFEST, "config": {**CONFIG, "digest": "md5:00"}},
        {**MANIFEST, "layers": [{**LAYER, "digest": "sha256:../../../etc/passwd"}]},
        {**MANIFEST, "layers": [{**LAYER, "size": -1}]},
        {**MANIFEST, "layers": [{**LAYER, "size": 1.5}]},
        {**MANIFEST, "layers": "x"},
        [],
        None,
    ],
)
def test_malformed_manifests_are_refused(document):
    """Wrong types, versions, digests and sizes are errors, not surprises later."""
    with pytest.raises(ImageError):
        m.parse_manifest(encoded(document), m.OCI_MANIFEST)


def test_schema_1_is_refused_by_name():
    """Docker's old manifests have no verifiable layers; the error says what to do."""
    with pytest.raises(ImageError, match="schema 1"):
        m.parse_manifest(b"{}", "application/vnd.docker.distribution.manifest.v1+prettyjws")


def test_too_many_layers_are_refused_before_any_is_fetched():
    """The kernel's overlay stacks 500; 1,000 get a clear error, 127 pass."""
    many = m.parse_manifest(encoded({**MANIFEST, "layers": [LAYER] * 1000}), m.OCI_MANIFEST)
    with pytest.raises(ImageError, match="1000 layers"):
        m.check_image(many)
    m.check_image(m.parse_manifest(encoded({**MANIFEST, "layers": [LAYER] * 127}), m.OCI_MANIFEST))


def test_artifacts_are_no_images():
    """A Helm chart is refused with its kind."""
    chart = {**MANIFEST, "config": {**CONFIG, "mediaType": "application/vnd.cncf.helm.config.v1+json"}}
    with pytest.raises(ImageError, match="helm"):
        m.check_image(m.parse_manifest(encoded(chart), m.OCI_MANIFEST))


@pytest.mark.parametrize(
    ("media_type", "compression"),
    [
        (m.OCI_LAYER, "none"),
        (m.OCI_LAYER + "+gzip", "gzip"),
        (m.OCI_LAYER + "+zstd", "zstd"),
        (m.DOCKER_LAYER + ".gzip", "gzip"),
        ("application/vnd.oci.image.layer.nondistributable.v1.tar+gzip", "gzip"),
        ("application/vnd.docker.image.rootfs.foreign.diff.tar.gzip", "gzip"),
    ],
)
def test_layer_compression(media_type, compression):
    """A layer's media type says how it is compressed."""
    assert m.layer_compression(media_type) == compression


@pytest.mark.parametrize(
    "media_type", ["", "text/plain", m.OCI_LAYER + "+brotli", m.OCI_LAYER + "+encrypted"]
)
def test_unknown_layers_are_refused(media_type):
    """What we could not unpack is not fetched."""
    with pytest.raises(ImageError):
        m.layer_compression(media_type)


@pytest.mark.parametrize(
    "document",
    [
        {**IMAGE, "rootfs": {"type": "layers", "diff_ids": ["sha256:x"]}},
        {**IMAGE, "rootfs": {"type": "windows", "diff_ids": []}},
        {**IMAGE, "config": {"Env": "PATH=/bin"}},
        {**IMAGE, "config": {"Env": ["A=\u0000"]}},
        {**IMAGE, "config": {"Cmd": "sh"}},
        {**IMAGE, "config": {"Labels": {"a": 1}}},
        {**IMAGE, "history": "long"},
        without(IMAGE, "rootfs"),
        {**IMAGE, "x": "\ud800"},
        [],
    ],
)
def test_malformed_configurations_are_refused(document):
    """A configuration is typed before anything relies on it."""
    with pytest.raises(ImageError):
        m.parse_config(encoded(document))


@pytest.mark.parametrize("member", [b"1" * 5000, b'"\xff"', b"[" * 5000 + b"]" * 5000, b"NaN,"])
def test_members_that_nobody_asked_for_are_checked_too(member):
    """The configuration is kept, and read again by others: by json, by jq, by Docker."""
    with pytest.raises(ImageError):
        m.parse_config(encoded(IMAGE)[:-1] + b', "x": ' + member + b"}")


def test_configuration_with_nulls():
    """Docker writes null where there is nothing."""
    config = {
        "Env": None,
        "Cmd": None,
        "Entrypoint": None,
        "Volumes": None,
        "Labels": None,
        "Healthcheck": None,
    }
    assert m.parse_config(encoded({**IMAGE, "config": config, "created": None})).config.env is None


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["layers", "config", "manifests", "mediaType", "digest", "size", "x"]), inner
        )
    ),
    max_leaves=12,
)


@given(json_values | st.binary(max_size=60))
def test_any_bytes_are_a_manifest_or_refused(value):
    """No input makes the parsers fail in another way."""
    data = value if isinstance(value, bytes) else encoded(value)
    for parse in (lambda: m.parse_manifest(data, m.OCI_MANIFEST), lambda: m.parse_manifest(data, ""),
                  lambda: m.parse_config(data)):  # fmt: skip
        try:
            parse()
        except ImageError:
            continue


def test_encoding_is_stable():
    """The same manifest always has the same digest."""
    parsed = m.parse_manifest(encoded(MANIFEST), m.OCI_MANIFEST)
    assert m.encode(parsed) == m.encode(m.parse_manifest(m.encode(parsed), m.OCI_MANIFEST))
