//! The page of the dashboard: one text, written by hand, that a browser gets at `/` and a host as `ui://moadim/dashboard`.
//!
//! Its parts are joined here, without a build. The sources have comments, types and indentation; the page is served without
//! them.

/// The parts as they are written.
const SOURCE: &str = concat!(
    include_str!("page/index.html"),
    "<style>\n",
    include_str!("page/style.css"),
    "</style>\n<body>\n<div id=\"page\"></div>\n<noscript>This page needs JavaScript.</noscript>\n<script>\n\"use strict\";\n(() => {\n",
    include_str!("page/link.js"),
    include_str!("page/patch.js"),
    include_str!("page/words.js"),
    include_str!("page/state.js"),
    include_str!("page/act.js"),
    include_str!("page/ask.js"),
    include_str!("page/chart.js"),
    include_str!("page/glance.js"),
    include_str!("page/lists.js"),
    include_str!("page/log.js"),
    include_str!("page/run.js"),
    include_str!("page/disk.js"),
    include_str!("page/main.js"),
    "})();\n</script>\n",
);

/// The page. Its one `<script>` and its one `<style>` can be named by their hashes in a policy: nothing else in it runs.
pub(crate) const PAGE: &str = match str::from_utf8(&PAGE_BYTES) {
    Ok(page) => page,
    // A test checks that it is UTF-8.
    Err(_) => "",
};

const PAGE_LEN: usize = without_comments(SOURCE.as_bytes(), &mut [0; SOURCE.len()]);
static PAGE_BYTES: [u8; PAGE_LEN] = {
    let mut page = [0; SOURCE.len()];
    without_comments(SOURCE.as_bytes(), &mut page);
    let mut left = [0; PAGE_LEN];
    left.copy_from_slice(page.split_at(PAGE_LEN).0);
    left
};

/// Copies the parts without `/** … */`, lines that begin with `//`, empty lines, indentation, the ends of lines and the semicolons that
/// end no statement, and spaces around punctuation, in the script only outside of texts on lines that are easy to tell apart. Returns how long that is.
const fn without_comments(source: &[u8], page: &mut [u8]) -> usize {
    let (mut from, mut to) = (0, 0);
    let mut is_style = true;
    let mut begins_line = true;
    // The quote that ends the text in which this is.
    let mut text = 0;
    let mut is_plain = true;
    while from < source.len() {
        let next = if from + 1 < source.len() { source[from + 1] } else { b'\n' };
        match (source[from], next) {
            (b'/', b'*') if source[from + 2] == b'*' => {
                while source[from] != b'*' || source[from + 1] != b'/' {
                    from += 1;
                }
                from += 2;
                if source[from] == b' ' {
                    from += 1;
                }
            }
            (b'/', b'/') if begins_line => {
                while source[from] != b'\n' {
                    from += 1;
                }
            }
            (b' ' | b'\n', _) if begins_line => from += 1,
            (b'\n', _) if goes_on(page[to - 1]) => {
                begins_line = true;
                from += 1;
            }
            (b' ', _) if is_style && (is_punctuation(page[to - 1]) || matches!(next, b'{' | b'}')) => from += 1,
            (b' ', _) if is_style && (page[to - 1] == b'>' || next == b'>') => from += 1,
            (b' ', _) if !is_style && is_plain && text == 0 && can_touch(page[to - 1], next) => from += 1,
            // The last of a block needs no end.
            (b'}', _) if page[to - 1] == b';' && (is_style || begins_line) => {
                (is_plain, text) = (begins_line && is_plain_line(source, from), 0);
                page[to - 1] = b'}';
                begins_line = false;
                from += 1;
            }
            (byte, _) => {
                if byte == b'<' && next == b'/' && source[from + 2] == b's' {
                    is_style = false;
                }
                if begins_line {
                    (is_plain, text) = (is_plain_line(source, from), 0);
                }
                if text == byte {
                    text = 0;
                } else if text == 0 && is_quote(byte) {
                    text = byte;
                }
                page[to] = byte;
                begins_line = byte == b'\n';
                (from, to) = (from + 1, to + 1);
            }
        }
    }
    to
}

const fn is_punctuation(byte: u8) -> bool {
    matches!(byte, b':' | b';' | b',' | b'{' | b'}')
}

const fn is_operator(byte: u8) -> bool {
    is_punctuation(byte) || matches!(byte, b'=' | b'>' | b'(' | b')' | b'?' | b'&' | b'|' | b'[' | b']' | b'!')
}

/// Whether nothing has to stand between two bytes of a script: two signs in a row would be another one.
const fn can_touch(one: u8, other: u8) -> bool {
    let is_sign = matches!(one, b'+' | b'-') || matches!(other, b'+' | b'-');
    is_operator(one) || is_operator(other) || is_quote(one) || is_quote(other) || (is_sign && one != other)
}

const fn is_quote(byte: u8) -> bool {
    matches!(byte, b'"' | b'`')
}

/// Whether what is left of the line has no regular expression, and no texts but those between double quotes or backticks, none within
/// another.
const fn is_plain_line(source: &[u8], mut at: usize) -> bool {
    let (mut text, mut braces) = (0, 0);
    while at < source.len() && source[at] != b'\n' {
        let byte = source[at];
        if text == 0 && byte == b'/' && source[at + 1] == b'*' {
            while source[at] != b'*' || source[at + 1] != b'/' {
                at += 1;
            }
            at += 1;
        } else if matches!(byte, b'\'' | b'/' | b'\\') {
            return false;
        } else if text == byte {
            if braces > 0 {
                return false;
            }
            text = 0;
        } else if text == 0 && is_quote(byte) {
            text = byte;
        } else if text == b'`' && byte == b'{' {
            braces += 1;
        } else if text == b'`' && byte == b'}' {
            braces -= 1;
        }
        at += 1;
    }
    true
}

/// Whether the line that ends with this byte needs no end: each statement but a block ends with a semicolon.
const fn goes_on(last: u8) -> bool {
    matches!(last, b'{' | b'(' | b'[' | b',' | b';' | b'}')
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Hosts hand it on whole, and may bound a message.
    const MAX_BYTES: usize = 64 * 1024;

    #[test]
    fn it_is_whole_and_stays_small() {
        assert!(PAGE.starts_with("<!doctype html>") && PAGE.trim_end().ends_with("</script>"), "{PAGE}");
        assert!(PAGE.len() <= MAX_BYTES, "{} bytes", PAGE.len());
    }

    #[test]
    fn comments_are_left_out_and_nothing_else_is() {
        let style =
            "<style>\n.a, b > :is(c) { top: 0; left: calc(1px - 2px); }\n@media (a: b) {\n  .c { d: e }\n}\n</style>\n";
        let short = "<style>\n.a,b>:is(c){top:0;left:calc(1px - 2px)}@media (a:b){.c{d:e}}</style>\n";
        let script = "/** One.\n * @param x */\nconst a = /** @type {any} */ (b) // kept\n\n    // gone\n  c(\"//\",\n    1 / 2, /x*/);\n\n\nd = (a) => b ? -c : + +e\n\"f = g\" + \"h ? i\"\nj = `k = ${l ? \"m : n\" : o}` + (/** @type {any} */ (p) ? q : r)\ns = `t = ${u ? `v = w` : x}`\nif (y) {\n  z[0] = a - -b + !c;\n}\nd();\n";
        let mut page = [0; 600];
        let length = without_comments(format!("{style}{script}").as_bytes(), &mut page);
        let left = format!(
            "{short}const a = (b) // kept\nc(\"//\",1 / 2, /x*/);d=(a)=>b?-c:+ +e\n\"f = g\"+\"h ? i\"\n\
             j=`k = ${{l ? \"m : n\" : o}}`+((p)?q:r)\ns = `t = ${{u ? `v = w` : x}}`\nif(y){{z[0]=a- -b+!c}}d();"
        );
        assert_eq!(str::from_utf8(&page[..length]), Ok(left.as_str()));
    }

    #[test]
    fn its_lines_can_be_joined() {
        for line in SOURCE.lines().map(str::trim_start).filter(|line| !line.starts_with("//")) {
            assert!(!line.contains(" //"), "the next line would belong to the comment: {line}");
            assert_eq!(line.matches('`').count() % 2, 0, "a text goes over several lines: {line}");
        }
    }

    #[test]
    fn nothing_in_it_makes_code_or_links_of_data() {
        let never = [
            "innerHTML",
            "outerHTML",
            "insertAdjacentHTML",
            "document.write",
            "createContextualFragment",
            "DOMParser",
            "eval(",
            "new Function",
            "setHTML",
            "srcdoc",
            "href",
            "src=",
            "javascript:",
            "https://",
        ];
        for word in never {
            assert!(!PAGE.contains(word), "{word}");
        }
        // The one address is the name of SVG's elements.
        assert_eq!(PAGE.matches("http://").count(), PAGE.matches("\"http://www.w3.org/2000/svg\"").count());
    }

    #[test]
    fn one_hash_names_all_of_its_script_and_one_its_style() {
        for tag in ["script", "style"] {
            for end in ["", "/"] {
                assert_eq!(PAGE.matches(&format!("<{end}{tag}>")).count(), 1, "{end}{tag}");
            }
            assert_eq!(PAGE.matches(&format!("<{tag} ")).count(), 0, "{tag}");
        }
        assert!(!PAGE.contains(" style=") && !PAGE.contains(" onclick="));
    }
}
