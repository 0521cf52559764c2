-- A state directory's database as fastdock left it when the schema had the version 2 (images and networks, no
-- containers), with what users have in it.  It stays as it is: databases out there do.
CREATE TABLE images (
  id            TEXT PRIMARY KEY,
  manifest      TEXT NOT NULL,
  document      TEXT NOT NULL,
  architecture  TEXT NOT NULL,
  created       TEXT NOT NULL,
  size          INTEGER NOT NULL,
  tagged        REAL NOT NULL,
  removed       INTEGER NOT NULL DEFAULT 0 -- removed, but a container still stands on it
) STRICT;
CREATE TABLE names (
  name          TEXT PRIMARY KEY,
  image_id      TEXT NOT NULL REFERENCES images ON DELETE CASCADE
) STRICT;
CREATE INDEX names_of_image ON names (image_id);
CREATE TABLE digests (
  name          TEXT NOT NULL,
  digest        TEXT NOT NULL,
  image_id      TEXT NOT NULL REFERENCES images ON DELETE CASCADE,
  PRIMARY KEY (name, digest)
) STRICT;
CREATE INDEX digests_of_image ON digests (image_id);
CREATE TABLE layers (
  key           TEXT PRIMARY KEY,
  diff_id       TEXT NOT NULL,
  size          INTEGER NOT NULL,
  entries       INTEGER NOT NULL,
  repairs       BLOB NOT NULL,
  boot          TEXT
) STRICT;
CREATE INDEX layers_unsettled ON layers (boot) WHERE boot IS NOT NULL;
CREATE TABLE image_layers (
  image_id      TEXT NOT NULL REFERENCES images ON DELETE CASCADE,
  position      INTEGER NOT NULL,
  key           TEXT NOT NULL REFERENCES layers,
  PRIMARY KEY (image_id, position)
) STRICT, WITHOUT ROWID;
CREATE INDEX image_layers_by_key ON image_layers (key);
CREATE TABLE image_blobs (
  image_id      TEXT NOT NULL REFERENCES images ON DELETE CASCADE,
  digest        TEXT NOT NULL,
  PRIMARY KEY (image_id, digest)
) STRICT, WITHOUT ROWID;
CREATE INDEX image_blobs_by_digest ON image_blobs (digest);
CREATE TABLE manifests (
  digest        TEXT PRIMARY KEY,
  image_id      TEXT NOT NULL REFERENCES images ON DELETE CASCADE,
  media_type    TEXT NOT NULL,
  from_registry INTEGER NOT NULL
) STRICT;
CREATE INDEX manifests_of_image ON manifests (image_id);
CREATE TABLE layer_blobs (
  digest        TEXT PRIMARY KEY,
  diff_id       TEXT NOT NULL,
  size          INTEGER NOT NULL,
  media_type    TEXT NOT NULL
) STRICT;
CREATE INDEX layer_blobs_by_diff_id ON layer_blobs (diff_id);
CREATE TABLE blob_sources (
  digest        TEXT NOT NULL,
  repository    TEXT NOT NULL,
  PRIMARY KEY (digest, repository)
) STRICT, WITHOUT ROWID;
CREATE TABLE holds (
  holder        TEXT PRIMARY KEY,
  image_id      TEXT NOT NULL REFERENCES images
) STRICT;
CREATE INDEX holds_of_image ON holds (image_id);
CREATE TABLE networks (
  id            TEXT PRIMARY KEY,
  name          TEXT NOT NULL UNIQUE,
  driver        TEXT NOT NULL,
  device        TEXT NOT NULL,
  internal      INTEGER NOT NULL,
  options       TEXT NOT NULL,
  labels        TEXT NOT NULL,
  created       REAL NOT NULL
) STRICT;
CREATE TABLE network_subnets (
  network_id    TEXT NOT NULL REFERENCES networks ON DELETE CASCADE,
  version       INTEGER NOT NULL,
  subnet        TEXT NOT NULL,
  gateway       TEXT NOT NULL,
  ip_range      TEXT NOT NULL,
  free          BLOB NOT NULL,
  PRIMARY KEY (network_id, version)
) STRICT, WITHOUT ROWID;
CREATE TABLE network_addresses (
  network_id    TEXT NOT NULL REFERENCES networks ON DELETE CASCADE,
  address       BLOB NOT NULL,
  container_id  TEXT NOT NULL,
  PRIMARY KEY (network_id, address)
) STRICT, WITHOUT ROWID;
CREATE INDEX network_addresses_of ON network_addresses (container_id);
CREATE TABLE network_ports (
  family        INTEGER NOT NULL,
  protocol      TEXT NOT NULL,
  port          INTEGER NOT NULL,
  host          TEXT NOT NULL,
  container_id  TEXT NOT NULL,
  PRIMARY KEY (family, protocol, port, host)
) STRICT, WITHOUT ROWID;
CREATE INDEX network_ports_of ON network_ports (container_id);
CREATE TABLE network_containers (
  container_id  TEXT PRIMARY KEY,
  name          TEXT NOT NULL,
  document      TEXT NOT NULL,
  owner         TEXT NOT NULL,
  resolver      INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE network_endpoints (
  network_id    TEXT NOT NULL REFERENCES networks,
  container_id  TEXT NOT NULL REFERENCES network_containers ON DELETE CASCADE,
  PRIMARY KEY (network_id, container_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX network_endpoints_of ON network_endpoints (container_id);

INSERT INTO images VALUES ('sha256:aa', 'sha256:bb', '{"config":{"Cmd":["sh"]}}', 'amd64', '2026-01-02T03:04:05Z', 5, 1.5, 0);
INSERT INTO names VALUES ('docker.io/library/old:latest', 'sha256:aa');
INSERT INTO layers VALUES ('sha256:cc', 'sha256:dd', 5, 1, x'', NULL);
INSERT INTO image_layers VALUES ('sha256:aa', 0, 'sha256:cc');
INSERT INTO networks VALUES ('ee', 'mine', 'bridge', 'fastdock-1', 0, '{}', '{"a":"b"}', 2.5);
INSERT INTO network_subnets VALUES ('ee', 4, '172.20.0.0/16', '172.20.0.1', '172.20.0.0/16', x'ac140002');
PRAGMA user_version=2;
