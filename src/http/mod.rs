//! The same tools over HTTP, on this machine's loopback alone: for the dashboard in a browser, and for programs.

mod api;
