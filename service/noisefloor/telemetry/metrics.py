"""What this process counts of itself, from zero when it starts, as Prometheus expects of counters."""

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
)

LANE = ("engine", "device", "isa")
REQUEST_BUCKETS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
CELL_BUCKETS_S = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0)

disable_created_metrics()  # type: ignore[no-untyped-call]

PROCESS = CollectorRegistry()
ProcessCollector(registry=PROCESS)

REQUESTS = Counter(
    "noisefloor_http_requests",
    "Requests answered by this process, by the template of their route.",
    ("route", "method", "status"),
    registry=PROCESS,
)
REQUEST_DURATION = Histogram(
    "noisefloor_http_request_duration_seconds",
    "From a request's arrival to the end of its answer, waiting and streaming included.",
    ("route", "method"),
    buckets=REQUEST_BUCKETS_S,
    registry=PROCESS,
)
CLAIMS = Counter("noisefloor_worker_claims", "Shards taken by this process.", registry=PROCESS)
TAKEOVERS = Counter(
    "noisefloor_worker_takeovers",
    "Shards taken by this process whose worker before lost its lease.",
    registry=PROCESS,
)
LEASES_LOST = Counter(
    "noisefloor_worker_leases_lost", "Shards that this process had and lost.", registry=PROCESS
)
CELLS = Counter(
    "noisefloor_worker_cells",
    "Cells ended by this process: its rate is cells per second by lane.",
    ("status", *LANE),
    registry=PROCESS,
)
CELL_DURATION = Histogram(
    "noisefloor_worker_cell_duration_seconds",
    "How long the measured cells of this process took.",
    LANE,
    buckets=CELL_BUCKETS_S,
    registry=PROCESS,
)
DELIVERIES = Counter(
    "noisefloor_courier_attempts",
    "Deliveries that this process tried, by what came of it.",
    ("kind", "result"),
    registry=PROCESS,
)
