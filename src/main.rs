//! The `moadim-mcp` program.

fn main() {}
