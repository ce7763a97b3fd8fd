//! The columns of HAProxy 2.6's statistics (Management Guide, section 9.1), and one row of them. A column that is not
//! filled is empty: nothing that is not counted is shown as 0.

use std::borrow::Cow;

/// The names of all columns, as HAProxy 2.6 writes them. The `-` ends those whose order is fixed.
pub(super) const HEADER: &str = "\
    # pxname,svname,qcur,qmax,scur,smax,slim,stot,bin,bout,dreq,dresp,ereq,econ,eresp,wretr,wredis,status,weight,act,\
    bck,chkfail,chkdown,lastchg,downtime,qlimit,pid,iid,sid,throttle,lbtot,tracked,type,rate,rate_lim,rate_max,\
    check_status,check_code,check_duration,hrsp_1xx,hrsp_2xx,hrsp_3xx,hrsp_4xx,hrsp_5xx,hrsp_other,hanafail,req_rate,\
    req_rate_max,req_tot,cli_abrt,srv_abrt,comp_in,comp_out,comp_byp,comp_rsp,lastsess,last_chk,last_agt,qtime,ctime,\
    rtime,ttime,agent_status,agent_code,agent_duration,check_desc,agent_desc,check_rise,check_fall,check_health,\
    agent_rise,agent_fall,agent_health,addr,cookie,mode,algo,conn_rate,conn_rate_max,conn_tot,intercepted,dcon,dses,\
    wrew,connect,reuse,cache_lookups,cache_hits,srv_icur,src_ilim,qtime_max,ctime_max,rtime_max,ttime_max,eint,\
    idle_conn_cur,safe_conn_cur,used_conn_cur,need_conn_est,uweight,agg_server_status,agg_server_check_status,\
    agg_check_status,-,ssl_sess,ssl_reused_sess,ssl_failed_handshake,h2_headers_rcvd,h2_data_rcvd,h2_settings_rcvd,\
    h2_rst_stream_rcvd,h2_goaway_rcvd,h2_detected_conn_protocol_errors,h2_detected_strm_protocol_errors,\
    h2_rst_stream_resp,h2_goaway_resp,h2_open_connections,h2_backend_open_streams,h2_total_connections,\
    h2_backend_total_streams,h1_open_connections,h1_open_streams,h1_total_connections,h1_total_streams,h1_bytes_in,\
    h1_bytes_out,h1_spliced_bytes_in,h1_spliced_bytes_out,\n";

/// The place of `-` among the columns.
pub(super) const END_OF_FIXED: usize = 103;
/// How many columns come after it.
pub(super) const AFTER_FIXED: usize = 24;

/// The subject of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum StatKind {
    Frontend,
    Backend,
    Server,
}

impl StatKind {
    /// The value of the column `type`.
    pub(super) fn number(self) -> u32 {
        match self {
            Self::Frontend => 0,
            Self::Backend => 1,
            Self::Server => 2,
        }
    }

    /// In typed lines.
    pub(super) fn letter(self) -> char {
        match self {
            Self::Frontend => 'F',
            Self::Backend => 'B',
            Self::Server => 'S',
        }
    }

    /// In JSON.
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Frontend => "Frontend",
            Self::Backend => "Backend",
            Self::Server => "Server",
        }
    }
}

/// A column that is filled, in the order of [`FILLED`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum StatColumn {
    Pxname,
    Svname,
    Qcur,
    Scur,
    Slim,
    Stot,
    BytesIn,
    BytesOut,
    Ereq,
    Econ,
    Wretr,
    Wredis,
    Status,
    Weight,
    Act,
    Bck,
    Lastchg,
    Pid,
    Iid,
    Sid,
    Throttle,
    Type,
    Rate,
    CheckStatus,
    CheckCode,
    CheckDuration,
    Responses1xx,
    Responses2xx,
    Responses3xx,
    Responses4xx,
    Responses5xx,
    ReqRate,
    ReqTot,
    CompIn,
    CompOut,
    LastChk,
    Ttime,
    CheckDesc,
    CheckRise,
    CheckFall,
    CheckHealth,
    Addr,
    Cookie,
    Mode,
    Algo,
    ConnRate,
    ConnTot,
    Uweight,
}

/// The columns that are filled: place among all columns; name; origin, nature and scope (section 9.2).
pub(super) const FILLED: [(usize, &str, &str); 48] = [
    (0, "pxname", "KNS"),
    (1, "svname", "KNS"),
    (2, "qcur", "MGP"),
    (4, "scur", "MGP"),
    (6, "slim", "CLP"),
    (7, "stot", "MCP"),
    (8, "bin", "MCP"),
    (9, "bout", "MCP"),
    (12, "ereq", "MCP"),
    (13, "econ", "MCP"),
    (15, "wretr", "MCP"),
    (16, "wredis", "MCP"),
    (17, "status", "SGP"),
    (18, "weight", "MaP"),
    (19, "act", "MGP"),
    (20, "bck", "MGP"),
    (23, "lastchg", "MAP"),
    (26, "pid", "KGP"),
    (27, "iid", "KGS"),
    (28, "sid", "KGS"),
    (29, "throttle", "MaP"),
    (32, "type", "CGS"),
    (33, "rate", "MRP"),
    (36, "check_status", "MOP"),
    (37, "check_code", "MOP"),
    (38, "check_duration", "MDP"),
    (39, "hrsp_1xx", "MCP"),
    (40, "hrsp_2xx", "MCP"),
    (41, "hrsp_3xx", "MCP"),
    (42, "hrsp_4xx", "MCP"),
    (43, "hrsp_5xx", "MCP"),
    (46, "req_rate", "MRP"),
    (48, "req_tot", "MCP"),
    (51, "comp_in", "MCP"),
    (52, "comp_out", "MCP"),
    (56, "last_chk", "MOP"),
    (61, "ttime", "MaP"),
    (65, "check_desc", "MOP"),
    (67, "check_rise", "CGS"),
    (68, "check_fall", "CGS"),
    (69, "check_health", "CGS"),
    (73, "addr", "CGS"),
    (74, "cookie", "CNS"),
    (75, "mode", "CGS"),
    (76, "algo", "CGS"),
    (77, "conn_rate", "MRP"),
    (79, "conn_tot", "MCP"),
    (99, "uweight", "MaP"),
];

/// Origin, nature and scope of a column, by its place in [`FILLED`].
pub(super) fn tags(kind: StatKind, filled: usize) -> &'static str {
    match (FILLED[filled].1, kind) {
        ("act" | "bck", StatKind::Server) => "SGP",
        ("rate", StatKind::Backend) => "MGP",
        _ => FILLED[filled].2,
    }
}

/// One value.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) enum StatValue<'a> {
    #[default]
    Empty,
    Unsigned32(u32),
    Unsigned64(u64),
    Text(Cow<'a, str>),
}

impl From<u32> for StatValue<'_> {
    fn from(number: u32) -> Self {
        Self::Unsigned32(number)
    }
}

impl From<u64> for StatValue<'_> {
    fn from(number: u64) -> Self {
        Self::Unsigned64(number)
    }
}

impl<'a> From<&'a str> for StatValue<'a> {
    fn from(text: &'a str) -> Self {
        Self::Text(text.into())
    }
}

impl From<String> for StatValue<'_> {
    fn from(text: String) -> Self {
        Self::Text(text.into())
    }
}

impl<'a> From<Cow<'a, str>> for StatValue<'a> {
    fn from(text: Cow<'a, str>) -> Self {
        Self::Text(text)
    }
}

impl<'a, T: Into<StatValue<'a>>> From<Option<T>> for StatValue<'a> {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Empty, Into::into)
    }
}

/// What HAProxy counts in 32 bits.
pub(super) fn gauge(number: u64) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

/// One row.
#[derive(Clone, Debug)]
pub(super) struct StatRow<'a> {
    pub(super) kind: StatKind,
    /// The number of its proxy.
    pub(super) iid: u32,
    /// Its number within the proxy; 0: the proxy itself.
    pub(super) sid: u32,
    /// In the order of [`FILLED`].
    pub(super) values: [StatValue<'a>; FILLED.len()],
}

impl<'a> StatRow<'a> {
    /// A row of this name in this proxy.
    pub(super) fn new(kind: StatKind, (pxname, iid): (&'a str, u32), (svname, sid): (&'a str, u32)) -> Self {
        let mut row = Self { kind, iid, sid, values: std::array::from_fn(|_| StatValue::Empty) };
        row.set(StatColumn::Pxname, pxname);
        row.set(StatColumn::Svname, svname);
        row.set(StatColumn::Pid, 1_u32);
        row.set(StatColumn::Iid, iid);
        row.set(StatColumn::Sid, sid);
        row.set(StatColumn::Type, kind.number());
        row
    }

    /// Fills a column.
    pub(super) fn set(&mut self, column: StatColumn, value: impl Into<StatValue<'a>>) {
        self.values[column as usize] = value.into();
    }

    /// Fills the five columns of responses.
    pub(super) fn responses(&mut self, classes: [u64; 5]) {
        use StatColumn::{Responses1xx, Responses2xx, Responses3xx, Responses4xx, Responses5xx};
        let columns = [Responses1xx, Responses2xx, Responses3xx, Responses4xx, Responses5xx];
        columns.into_iter().zip(classes).for_each(|(column, count)| self.set(column, count));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filled_columns_are_where_haproxy_has_them() {
        let names: Vec<_> = HEADER.trim_start_matches("# ").trim_end_matches(",\n").split(',').collect();
        assert_eq!((names.len(), names[END_OF_FIXED]), (END_OF_FIXED + 1 + AFTER_FIXED, "-"));
        for (place, name, tags) in FILLED {
            assert_eq!((names[place], tags.len()), (name, 3));
        }
        assert!(FILLED.is_sorted_by_key(|(place, ..)| *place));
        assert_eq!(FILLED[StatColumn::Uweight as usize].1, "uweight");
        assert_eq!(FILLED[StatColumn::Responses5xx as usize].1, "hrsp_5xx");
        assert_eq!(FILLED[StatColumn::Mode as usize].1, "mode");
    }
}
