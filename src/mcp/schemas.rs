//! The tools' definitions are a contract: they change on purpose only, and `schemas/` shows how.

use std::collections::BTreeMap;
use std::path::Path;

use super::tool::Tool;
use super::tools;

const BLESS: &str = "MOADIM_BLESS=1 cargo test --lib schemas";

/// Returns one file for each tool, as (file name, text).
fn schema_files() -> Vec<(String, String)> {
    let text = |tool: &Tool| serde_json::to_string_pretty(tool.definition()).unwrap() + "\n";
    tools::all().iter().map(|tool| (format!("{}.json", tool.name()), text(tool))).collect()
}

/// The schemas of files that people write are beside those of the tools (see `cli/file_schemas.rs`), and the description of the HTTP
/// interface (`http/api/openapi.rs`).
fn is_of_a_tool(name: &str) -> bool {
    !name.ends_with(".schema.json") && name != "openapi.json"
}

fn golden(directory: &Path) -> BTreeMap<String, String> {
    let Ok(files) = std::fs::read_dir(directory) else { return BTreeMap::new() };
    let read = |file: std::io::Result<std::fs::DirEntry>| {
        let path = file.unwrap().path();
        (path.file_name().unwrap().to_str().unwrap().to_owned(), std::fs::read_to_string(path).unwrap())
    };
    files.map(read).filter(|(name, _)| is_of_a_tool(name)).collect()
}

#[test]
fn the_definitions_are_those_in_the_folder_schemas() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("schemas");
    let actual: BTreeMap<String, String> = schema_files().into_iter().collect();
    if std::env::var_os("MOADIM_BLESS").is_some_and(|value| value == "1") {
        std::fs::create_dir_all(&directory).unwrap();
        for stale in golden(&directory).keys().filter(|name| !actual.contains_key(*name)) {
            std::fs::remove_file(directory.join(stale)).unwrap();
        }
        for (name, text) in &actual {
            std::fs::write(directory.join(name), text).unwrap();
        }
    }
    let expected = golden(&directory);
    let names = |files: &BTreeMap<String, String>| files.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(&actual), names(&expected), "tools came or went; if that is meant: {BLESS}");
    for (name, text) in &actual {
        let first = text.lines().zip(expected[name].lines()).position(|(actual, expected)| actual != expected);
        assert!(
            *text == expected[name],
            "the definition in schemas/{name} has changed, first in line {}; if that is meant: {BLESS}",
            first.map_or_else(|| "after the end of one of them".to_owned(), |line| (line + 1).to_string())
        );
    }
}

/// Every model reads names, descriptions and input schemas before its first word, and hosts keep all of it. What only panels use is
/// listed for the hosts that show some.
#[test]
fn the_list_of_tools_is_short() {
    const MAX_BYTES_FOR_MODELS: usize = 14 * 1024;
    const MAX_BYTES: usize = 26 * 1024;
    let (mut for_models, mut all, mut sizes) = (0, 0, Vec::new());
    let for_panels =
        tools::all().into_iter().filter(|tool| !tool.is_for_models()).map(|tool| format!("{}.json", tool.name()));
    let for_panels: Vec<String> = for_panels.collect();
    for (name, text) in schema_files().into_iter().filter(|(name, _)| !for_panels.contains(name)) {
        let definition: serde_json::Value = serde_json::from_str(&text).unwrap();
        let seen = ["name", "description", "inputSchema"].map(|key| (key, &definition[key]));
        let seen = serde_json::to_string(&BTreeMap::from(seen)).unwrap().len();
        let whole = definition.to_string().len() + 1;
        for_models += seen;
        all += whole;
        sizes.push((name, seen, whole));
    }
    assert!(for_models <= MAX_BYTES_FOR_MODELS, "models see {for_models} bytes: {sizes:?}");
    assert!(all <= MAX_BYTES, "{all} bytes: {sizes:?}");
}
