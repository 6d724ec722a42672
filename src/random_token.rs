//! Random tokens, which nobody can guess: a program that shows one was given it.

/// More than anybody can guess.
const TOKEN_BYTES: usize = 24;

/// Returns a new token of 192 random bits, in hexadecimal.
///
/// # Errors
/// The system gives no random bytes.
pub(crate) fn random_token() -> Result<String, getrandom::Error> {
    let mut bytes = [0; TOKEN_BYTES];
    getrandom::fill(&mut bytes)?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_long_and_differ() {
        let (one, other) = (random_token().unwrap(), random_token().unwrap());
        assert_eq!((one.len(), other.len()), (48, 48));
        assert_ne!(one, other);
    }
}
