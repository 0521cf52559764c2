"""The network tables: one migration of the engine's database."""

MIGRATION = """
CREATE TABLE networks (
  id            TEXT PRIMARY KEY,              -- 64 hexadecimal digits
  name          TEXT NOT NULL UNIQUE,
  driver        TEXT NOT NULL,                 -- bridge, macvlan
  device        TEXT NOT NULL,                 -- the bridge, or macvlan's parent
  internal      INTEGER NOT NULL,
  options       TEXT NOT NULL,                 -- JSON
  labels        TEXT NOT NULL,                 -- JSON
  created       REAL NOT NULL                  -- seconds since the epoch
) STRICT;
CREATE TABLE network_subnets (
  network_id    TEXT NOT NULL REFERENCES networks ON DELETE CASCADE,
  version       INTEGER NOT NULL,              -- 4, 6
  subnet        TEXT NOT NULL,
  gateway       TEXT NOT NULL,
  ip_range      TEXT NOT NULL,                 -- what addresses are given out of
  free          BLOB NOT NULL,                 -- no address of the range below this one is free
  PRIMARY KEY (network_id, version)
) STRICT, WITHOUT ROWID;
CREATE TABLE network_addresses (
  network_id    TEXT NOT NULL REFERENCES networks ON DELETE CASCADE,
  address       BLOB NOT NULL,                 -- 4 or 16 bytes, so that they sort
  container_id  TEXT NOT NULL,
  PRIMARY KEY (network_id, address)
) STRICT, WITHOUT ROWID;
CREATE INDEX network_addresses_of ON network_addresses (container_id);
CREATE TABLE network_ports (
  family        INTEGER NOT NULL,              -- AF_INET, AF_INET6
  protocol      TEXT NOT NULL,
  port          INTEGER NOT NULL,
  host          TEXT NOT NULL,                 -- '' is every address
  container_id  TEXT NOT NULL,
  PRIMARY KEY (family, protocol, port, host)
) STRICT, WITHOUT ROWID;
CREATE INDEX network_ports_of ON network_ports (container_id);
CREATE TABLE network_containers (              -- containers that have addresses
  container_id  TEXT PRIMARY KEY,
  name          TEXT NOT NULL,
  document      TEXT NOT NULL,                 -- JSON: endpoints, ports, egress, names (plan.py)
  owner         TEXT NOT NULL,                 -- "pid start-time" of who keeps it alive: the container's init process
  resolver      INTEGER NOT NULL               -- uses fastdock's resolver
) STRICT, WITHOUT ROWID;
CREATE TABLE network_endpoints (
  network_id    TEXT NOT NULL REFERENCES networks,
  container_id  TEXT NOT NULL REFERENCES network_containers ON DELETE CASCADE,
  PRIMARY KEY (network_id, container_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX network_endpoints_of ON network_endpoints (container_id);
"""
