//! The demo.

/// Shows it.
pub(super) fn demo() -> anyhow::Result<()> {
    Ok(())
}
