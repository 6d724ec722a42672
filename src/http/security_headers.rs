//! The headers of every answer, by which a browser runs the page's own script and nothing else.

use axum::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
};
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest, Sha256};

const FIXED: [(HeaderName, HeaderValue); 6] = [
    (X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
    (REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
    (CACHE_CONTROL, HeaderValue::from_static("no-store")),
    (X_FRAME_OPTIONS, HeaderValue::from_static("DENY")),
    (HeaderName::from_static("cross-origin-opener-policy"), HeaderValue::from_static("same-origin")),
    (HeaderName::from_static("cross-origin-resource-policy"), HeaderValue::from_static("same-origin")),
];

/// The headers of every answer.
#[derive(Debug, Clone)]
pub(super) struct SecurityHeaders {
    policy: HeaderValue,
}

impl SecurityHeaders {
    /// Allows the scripts and styles that stand in `page`, and no others.
    pub(super) fn for_page(page: &str) -> Self {
        let policy = content_security_policy(page);
        // It is made of ASCII.
        let policy = HeaderValue::try_from(policy).unwrap_or(HeaderValue::from_static("default-src 'none'"));
        Self { policy }
    }

    pub(super) fn add_to(&self, headers: &mut HeaderMap) {
        headers.insert(CONTENT_SECURITY_POLICY, self.policy.clone());
        headers.extend(FIXED);
    }
}

fn content_security_policy(page: &str) -> String {
    format!(
        "default-src 'none'; script-src {scripts}; style-src {styles}; connect-src 'self'; img-src data:; base-uri 'none'; \
         form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'",
        scripts = hashes(page, "script"),
        styles = hashes(page, "style"),
    )
}

/// Returns the sources of what stands within elements of this name.
fn hashes(page: &str, element: &str) -> String {
    let hash = |text: &str| format!("'sha256-{}'", STANDARD.encode(Sha256::digest(text)));
    let hashes: Vec<String> = contents(page, element).map(hash).collect();
    if hashes.is_empty() { "'none'".to_owned() } else { hashes.join(" ") }
}

/// Returns what stands within each element of this name, which cannot hold its own end tag.
fn contents<'a>(page: &'a str, element: &str) -> impl Iterator<Item = &'a str> {
    let (begin, end) = (format!("<{element}"), format!("</{element}>"));
    let mut rest = page;
    std::iter::from_fn(move || {
        loop {
            rest = &rest[rest.find(&begin)? + begin.len()..];
            // An element whose name only begins like that.
            if rest.starts_with(|c: char| c == '>' || c.is_ascii_whitespace()) {
                break;
            }
        }
        let text = &rest[rest.find('>')? + 1..];
        let (text, after) = text.split_at(text.find(&end)?);
        rest = after;
        Some(text)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dashboard::page::PAGE;

    #[test]
    fn each_script_and_style_is_allowed_by_its_hash() {
        let page = "<html><style>p{}</style><scripts>no</scripts><script type=\"module\">\nlet a = '<style>';</script><script></script>";
        assert_eq!(contents(page, "script").collect::<Vec<_>>(), ["\nlet a = '<style>';", ""]);
        assert_eq!(contents("<style>p{}</style>", "style").collect::<Vec<_>>(), ["p{}"]);
        // Of `printf 'p{}' | openssl dgst -sha256 -binary | base64`.
        assert_eq!(hashes("<style>p{}</style>", "style"), "'sha256-gG2yISYereRMiG2lMXrbiUgi0Ubw9p7QCeWcroOvy9Y='");
        assert_eq!(hashes("", "style"), "'none'");
    }

    #[test]
    fn the_page_has_one_script_and_one_style_and_nothing_that_the_policy_forbids() {
        assert_eq!(contents(PAGE, "script").count(), 1);
        assert_eq!(contents(PAGE, "style").count(), 1);
        let markup = contents(PAGE, "script")
            .chain(contents(PAGE, "style"))
            .fold(PAGE.to_owned(), |page, part| page.replace(part, ""));
        for forbidden in [" style=", " onclick=", " onload=", "src=", "http:", "https:"] {
            assert!(!markup.contains(forbidden), "{forbidden}");
        }
    }

    #[test]
    fn every_answer_has_them() {
        let mut headers = HeaderMap::new();
        SecurityHeaders::for_page("<script>1</script>").add_to(&mut headers);
        let policy = headers[CONTENT_SECURITY_POLICY].to_str().unwrap();
        assert!(policy.contains("script-src 'sha256-") && policy.contains("style-src 'none'"), "{policy}");
        assert!(!policy.contains("unsafe") && policy.contains("require-trusted-types-for 'script'"), "{policy}");
        assert_eq!((headers.len(), &headers[X_FRAME_OPTIONS]), (7, &HeaderValue::from_static("DENY")));
    }
}
