//! HAProxy driven by Pointsman, compared with HAProxy driven by confd, both on one machine in one run.
//!
//! | module | owns |
//! |---|---|
//! | `cost` | CPU per request with 10,000 services; duration of a reload, memory |
//! | `follow` | how soon traffic follows a changed instance |
//! | `changes` | requests that fail while instances change and while HAProxy is reloaded |
//! | `control` | the cost of a change before it reaches HAProxy, in this process |
//! | `confd` | confd's way |

mod changes;
mod confd;
mod control;
mod cost;
mod follow;

use crate::options::Options;
use crate::report::Report;

/// Measures everything.
pub(crate) fn measure(options: &Options, report: &mut Report) {
    control::measure(options, report);
    for (what, measure) in
        [("CPU", cost::measure as Measure), ("follow", follow::measure), ("changes", changes::measure)]
    {
        if let Err(error) = measure(options, report) {
            report.fail(what, &error);
        }
    }
}

type Measure = fn(&Options, &mut Report) -> std::io::Result<()>;
