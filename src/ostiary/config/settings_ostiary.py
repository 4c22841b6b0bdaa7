"""The settings of our own block, `ostiary:`. It must not read any."""

from __future__ import annotations

from ostiary.config.setting import Setting, Shape, below, used

_EDGE: tuple[Setting, ...] = (
    used("header_seconds", Shape.NUMBER, "Deadline for a request's headers.", "10", least=0.01),
    used("body_seconds", Shape.NUMBER, "Deadline for a request's body.", "60", least=0.01),
    used("keep_alive_seconds", Shape.NUMBER, "How long an idle connection stays open.", "75", least=0),
    used("max_header_bytes", Shape.WHOLE, "Largest header block.", "32768", least=1024),
    used("max_headers", Shape.WHOLE, "Most header lines.", "100", least=8),
    used("max_connections", Shape.WHOLE, "Most connections at once.", "4096", least=1),
    used("max_connections_per_ip", Shape.WHOLE, "Most connections at once from one address.", "2048", least=1),
    used("max_body_mb", Shape.NUMBER, "Largest request body, in MiB; wins over `max_request_size_mb`.", "32",
         least=0.001),
    used("allowed_hosts", Shape.NAMES, "Values of `Host` that are answered; none named: any single well-formed one."),
)  # fmt: skip

_UPSTREAM: tuple[Setting, ...] = (
    used("connect_seconds", Shape.NUMBER, "Deadline for reaching a provider.", "5", least=0.01),
    used("first_byte_seconds", Shape.NUMBER, "Deadline for the first byte of an answer.", "600", least=0.01),
    used("idle_seconds", Shape.NUMBER, "Longest silence within an answer.", "300", least=0.01),
    used("total_seconds", Shape.NUMBER, "Deadline for one attempt.", "3600", least=0.01),
    used("proxy", Shape.TEXT, "Forward proxy, `http://host:port`, for all calls to providers."),
    used("use_environment_proxy", Shape.FLAG, "Take `HTTPS_PROXY`, `HTTP_PROXY` and `NO_PROXY` into account.",
         "false"),
    used("pool_per_origin", Shape.WHOLE, "Most connections to one provider.", "1024", least=1),
    used("idle_connection_seconds", Shape.NUMBER, "How long an idle connection to a provider is kept.", "30", least=0),
    used("ca_file", Shape.TEXT, "Certificate authorities to trust in place of the system's."),
    used("instance_metadata", Shape.FLAG,
         "Ask the metadata service of a cloud's machine for credentials where nothing else gives any.", "false"),
)  # fmt: skip

OSTIARY_SETTINGS: tuple[Setting, ...] = (
    used("ostiary", Shape.SECTION, "What only Ostiary knows."),
    used("ostiary.edge", Shape.SECTION, "The HTTP edge."),
    *below("ostiary.edge", *_EDGE),
    used("ostiary.upstream", Shape.SECTION, "Calls to providers."),
    *below("ostiary.upstream", *_UPSTREAM),
    used("ostiary.routing", Shape.SECTION, "Bounds of one exchange."),
    used("ostiary.routing.max_attempts", Shape.WHOLE, "Most attempts, retries and fallbacks together.", "8", least=1),
    used("ostiary.routing.exchange_seconds", Shape.NUMBER, "Deadline for all attempts together.", "3600", least=0.01),
    used("ostiary.drain_seconds", Shape.NUMBER, "How long running answers may go on after SIGTERM.", "600", least=0),
    used("ostiary.ping_seconds", Shape.NUMBER, "Silence after which a stream gets a comment.", "15", least=0.1),
    used("ostiary.default_output_estimate", Shape.WHOLE, "Output tokens reserved where a request names no cap.",
         "1024", least=1),
    used("ostiary.metrics", Shape.SECTION, "Prometheus metrics."),
    used("ostiary.metrics.enabled", Shape.FLAG, "Answer `/metrics`.", "false"),
    used("ostiary.metrics.token", Shape.SECRET, "Bearer token that `/metrics` asks for, besides the admin key."),
    used("ostiary.ledger", Shape.SECTION, "The journal of records."),
    used("ostiary.ledger.segment_mb", Shape.WHOLE, "Size of one journal file, in MiB.", "4", least=1),
    used("ostiary.ledger.flush_seconds", Shape.NUMBER, "Pause between batches to the store.", "1", least=0.01),
    used("ostiary.store", Shape.SECTION, "The database."),
    used("ostiary.store.connections", Shape.WHOLE, "Most connections to PostgreSQL, of this process in all.", "10",
         least=3),
    used("ostiary.store.grace_seconds", Shape.NUMBER,
         "How long keys in use go on while the database cannot be reached.", "3600", least=0),
    used("ostiary.store.strict_tls", Shape.FLAG,
         "Refuse a PostgreSQL beyond this machine whose certificate is not verified (`sslmode=verify-full`).", "false"),
    used("ostiary.responses", Shape.SECTION, "State of the Responses API."),
    used("ostiary.responses.keep", Shape.SECTION,
         "Responses may be kept, sealed, for their owners to go on from. Without this block none is."),
    used("ostiary.responses.keep.seconds", Shape.NUMBER, "How long; 30 days at most.", least=1),
    used("ostiary.responses.keep.most_bytes", Shape.WHOLE,
         "Longest conversation that is kept, in bytes; 4194304 at most.", "1048576", least=1024),
    used("ostiary.catalog_file", Shape.TEXT,
         "Rows that win over the shipped model table: a file of the shape that LiteLLM publishes its price table in "
         "(JSON), relative to this one. A row names what it changes."),
    used("ostiary.demo", Shape.FLAG, "Offer the built-in `demo` model beside the configured ones.", "false"),
)  # fmt: skip
