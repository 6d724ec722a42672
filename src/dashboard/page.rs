//! The page of the dashboard: one text, written by hand, that a browser gets at `/` and a host as `ui://moadim/dashboard`.
//!
//! It asks nothing of a build: its parts are joined here, and their types are checked apart (`tests/page/`).

/// The page. Its one `<script>` and its one `<style>` can be named by their hashes in a policy: nothing else in it runs.
pub(crate) const PAGE: &str = concat!(
    include_str!("page/index.html"),
    "<style>\n",
    include_str!("page/style.css"),
    "</style>\n<body>\n<div id=\"page\"></div>\n<noscript>This page needs JavaScript.</noscript>\n<script>\n\"use strict\";\n(() => {\n",
    include_str!("page/link.js"),
    include_str!("page/patch.js"),
    include_str!("page/words.js"),
    include_str!("page/state.js"),
    include_str!("page/act.js"),
    include_str!("page/chart.js"),
    include_str!("page/glance.js"),
    include_str!("page/lists.js"),
    include_str!("page/log.js"),
    include_str!("page/run.js"),
    include_str!("page/disk.js"),
    include_str!("page/main.js"),
    "})();\n</script>\n",
);

#[cfg(test)]
mod tests {
    use super::PAGE;

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
