//! A real HAProxy between hand-written configurations and real connections: found, checked, told, reloaded, broken, ended.
//!
//! `POINTSMAN_TEST_HAPROXY` names another HAProxy than the one in PATH.

mod commands;
mod errands;
mod life;
mod site;
