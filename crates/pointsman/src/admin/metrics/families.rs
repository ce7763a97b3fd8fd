//! The metrics: names, types and helps. docs/metrics.md has a row for each.

/// One metric: name, type, help. docs/metrics.md has a row for each.
pub(super) struct Family {
    pub(super) name: &'static str,
    pub(super) kind: &'static str,
    pub(super) help: &'static str,
}

const fn counter(name: &'static str, help: &'static str) -> Family {
    Family { name, kind: "counter", help }
}

const fn gauge(name: &'static str, help: &'static str) -> Family {
    Family { name, kind: "gauge", help }
}

pub(super) const REQUESTS: Family =
    counter("pointsman_requests_total", "Requests (HTTP) or connections (TCP), by instance.");
pub(super) const RESPONSES: Family = counter("pointsman_responses_total", "Responses, by status class.");
pub(super) const BYTES_IN: Family = counter("pointsman_bytes_in_total", "Bytes from clients.");
pub(super) const BYTES_OUT: Family = counter("pointsman_bytes_out_total", "Bytes to clients.");
pub(super) const RETRIES: Family =
    counter("pointsman_retries_total", "Requests sent again, and failed connects that went to another instance.");
pub(super) const RETRY_REASONS: Family = counter("pointsman_retries_by_reason_total", "The same, by reason.");
pub(super) const SHED: Family =
    counter("pointsman_shed_total", "Requests answered 503 because all places or instances were taken.");
pub(super) const ACTIVE: Family = gauge("pointsman_active", "Open requests (HTTP) or connections (TCP).");
pub(super) const QUEUED: Family = gauge(
    "pointsman_queued",
    "Requests (HTTP) or connections (TCP) that wait for an instance below its maxconn, or for a place.",
);
pub(super) const CONNECT_FAILURES: Family =
    counter("pointsman_connect_failures_total", "Connections to an instance that were refused or timed out.");
pub(super) const EJECTIONS: Family = counter("pointsman_ejections_total", "Ejections of an instance, by reason.");
pub(super) const PANIC: Family =
    gauge("pointsman_panic", "1 while too few instances of the service are healthy, and all are used (panic).");
pub(super) const INSTANCE_UP: Family =
    gauge("pointsman_instance_up", "1 while the instance is up, 0 while it is down.");
pub(super) const WEIGHT: Family =
    gauge("pointsman_instance_weight", "Weight of the instance now, with slow_start and drain.");
pub(super) const STATE_SINCE: Family = gauge(
    "pointsman_instance_state_since_seconds",
    "Time since which the instance is up or down, in seconds since the epoch.",
);
pub(super) const CHECKED: Family = gauge(
    "pointsman_instance_checked_seconds",
    "Time of the instance's last active check, in seconds since the epoch.",
);
pub(super) const LAST_ERROR: Family = gauge(
    "pointsman_instance_last_error_seconds",
    "Time of the instance's last failure, in seconds since the epoch, and the fault or status.",
);
pub(super) const CHECK_UP: Family =
    gauge("pointsman_instance_check_up", "1 while active checks let the instance have work, 0 while they do not.");
pub(super) const CHECK_DURATION: Family =
    gauge("pointsman_instance_check_duration_seconds", "How long the instance's last active check took.");
pub(super) const DURATION: Family = Family {
    name: "pointsman_request_duration_seconds",
    kind: "histogram",
    help: "Time from a request's head to the end of its response.",
};
pub(super) const CONNECTIONS_OPEN: Family = gauge("pointsman_connections_open", "Open client connections.");
pub(super) const CONNECTIONS: Family = counter("pointsman_connections_total", "Client connections accepted.");
pub(super) const CONNECTIONS_EVICTED: Family =
    counter("pointsman_connections_evicted_total", "Idle client connections closed to make room for others.");
pub(super) const HTTP2_GLITCHES: Family =
    counter("pointsman_http2_glitches_total", "Points for HTTP/2 frames of clients that move nothing.");
pub(super) const CONNECTIONS_REFUSED: Family =
    counter("pointsman_connections_refused_total", "Client connections refused because of the limit.");
pub(super) const FAULTS: Family = counter("pointsman_faults_total", "Local replies and cut connections, by fault.");
pub(super) const HANDSHAKES: Family = counter(
    "pointsman_tls_handshakes_total",
    "TLS handshakes of clients, by version and whether a session was resumed.",
);
pub(super) const TABLE_REVISION: Family = gauge("pointsman_table_revision", "Store revision of the newest table.");
pub(super) const TABLE_APPLIED: Family =
    gauge("pointsman_table_applied_revision", "Store revision of the table that the engine serves.");
pub(super) const TABLE_SERVICES: Family = gauge("pointsman_table_services", "Services in the table.");
pub(super) const TABLE_INSTANCES: Family = gauge("pointsman_table_instances", "Instances in the table.");
pub(super) const LAST_GOOD: Family =
    gauge("pointsman_last_good_services", "Services served with their last good settings, because their keys are bad.");
pub(super) const STATE_KEPT: Family =
    gauge("pointsman_state_kept", "0 while the balancer's own file below --state cannot be written.");
pub(super) const LAST_CHANGE: Family =
    gauge("pointsman_last_change_timestamp_seconds", "Time of the last table change; 0 before the first.");
pub(super) const COMPILE: Family = gauge("pointsman_config_compile_seconds", "Duration of the last compile.");
pub(super) const SWAPS: Family = counter("pointsman_swaps_total", "Tables published.");
pub(super) const READY: Family = gauge("pointsman_ready", "1 while /readyz answers 200.");
pub(super) const PROBLEMS: Family = gauge("pointsman_problems", "Problems with the keys, by kind.");
pub(super) const CERTIFICATE_EXPIRES: Family = gauge(
    "pointsman_certificate_expires_seconds",
    "Time at which the certificate expires, in seconds since the epoch.",
);
pub(super) const ACME_RENEW: Family = gauge(
    "pointsman_acme_renew_seconds",
    "Time at which a certificate by ACME is to be renewed, in seconds since the epoch.",
);
pub(super) const ACME_NEXT: Family = gauge(
    "pointsman_acme_next",
    "1 for the next step of each certificate by ACME that services want, or handshakes on demand.",
);
pub(super) const ACME_NAMES: Family = gauge(
    "pointsman_acme_names",
    "Names that certificates by ACME are wanted for, by services or on demand, by whether there is one.",
);
pub(super) const ACME_ORDERS: Family =
    counter("pointsman_acme_orders_total", "Orders and tries of this balancer for certificates by ACME, by outcome.");
pub(super) const ACME_DEMANDS: Family = counter(
    "pointsman_acme_demands_total",
    "Names that handshakes wanted certificates for on demand, by what this balancer found.",
);
pub(super) const STORE_UP: Family = gauge("pointsman_store_up", "1 while the store is watched.");
pub(super) const STORE_INFO: Family =
    gauge("pointsman_store_info", "State of the connection to the store, its name, and the last error's kind.");
pub(super) const STATUS_KEPT: Family =
    gauge("pointsman_status_kept", "1 while the store has this balancer's status, for `pointsman status` and --wait.");
pub(super) const HAPROXY_INFO: Family = gauge("pointsman_haproxy_info", "Version of the HAProxy in use.");
pub(super) const HAPROXY_WORKERS: Family =
    gauge("pointsman_haproxy_workers", "HAProxy workers: `current` accepts connections, `old` ones finish theirs.");
pub(super) const HAPROXY_RELOADS: Family = counter("pointsman_haproxy_reloads_total", "Reloads of HAProxy, by result.");
pub(super) const HAPROXY_RELOAD: Family = gauge("pointsman_haproxy_reload_seconds", "Duration of the last reload.");
pub(super) const HAPROXY_COMMANDS: Family =
    counter("pointsman_haproxy_commands_total", "Commands that changed the running HAProxy.");
pub(super) const BUILD_INFO: Family = gauge("pointsman_build_info", "Version of Pointsman.");
pub(super) const LOG_LOST_LINES: Family =
    counter("pointsman_log_lost_lines_total", "Lines of the log that were lost because nobody read them in time.");
pub(super) const ACCESS_LOG_DROPPED: Family =
    counter("pointsman_access_log_dropped_total", "Lines of the access log that were dropped.");
pub(super) const SPANS_SENT: Family = counter("pointsman_trace_spans_sent_total", "Spans that the collector took.");
pub(super) const SPANS_DROPPED: Family = counter("pointsman_trace_spans_dropped_total", "Spans that were dropped.");
pub(super) const PAGES_OPEN: Family = gauge("pointsman_pages_open", "Open pages of the balancer in browsers.");
pub(super) const PAGES_REFUSED: Family =
    counter("pointsman_pages_refused_total", "Pages refused because too many were open.");
pub(super) const RESIDENT: Family = gauge("process_resident_memory_bytes", "Resident memory in bytes.");
pub(super) const OPEN_FDS: Family = gauge("process_open_fds", "Open file descriptors.");
pub(super) const MAX_FDS: Family = gauge("process_max_fds", "Limit on open file descriptors.");
pub(super) const START_TIME: Family =
    gauge("process_start_time_seconds", "Start time of the process, seconds since the epoch.");
pub(super) const UNNAMED: Family =
    gauge("pointsman_metrics_unnamed_services", "Services that are counted together, as (others).");
pub(super) const COMPRESS_IN: Family =
    counter("pointsman_compress_bytes_in_total", "Bytes of bodies before their compression.");
pub(super) const COMPRESS_OUT: Family =
    counter("pointsman_compress_bytes_out_total", "The same bytes after their compression.");
pub(super) const COMPRESS_PASSED: Family = counter(
    "pointsman_compress_passed_total",
    "Answers that were not compressed because so many others were at that moment.",
);
pub(super) const SNAPSHOT_AGE: Family =
    gauge("pointsman_snapshot_age_seconds", "Age of the snapshot that is served; 0 once the store was read.");
pub(super) const GUARD_HELD: Family = gauge("pointsman_guard_held", "What was taken away at once and is served on.");
pub(super) const GUARD_HOLDS: Family = counter("pointsman_guard_holds_total", "Changes that the guard held.");
pub(super) const LIMITED: Family =
    counter("pointsman_rate_limited_total", "Requests answered 429 because they were beyond the rate.");
