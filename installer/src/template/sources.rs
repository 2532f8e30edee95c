//! Where packages come from: the machine's own APT sources, so that no registry's host stands in a recipe or here.

use std::path::Path;

use crate::error::InstallerError;
use crate::system::files;
use crate::template::recipe::Debian;

/// One place that has packages.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Source {
    uri: String,
    suite: String,
    components: Vec<String>,
    /// `signed-by=…`, `trusted=…`, as a one-line source writes them.
    options: Vec<String>,
}

/// The lines of a sources.list for the recipe's suites: from `file`, else from the machine's sources in `etc_apt`.
pub fn lines(debian: &Debian, file: Option<&Path>, etc_apt: &Path) -> Result<Vec<String>, InstallerError> {
    let mut known = Vec::new();
    if let Some(file) = file {
        known.extend(read(file)?);
    } else {
        let main = etc_apt.join("sources.list");
        if main.exists() {
            known.extend(read(&main)?);
        }
        for path in files::list(&etc_apt.join("sources.list.d"))? {
            known.extend(read(&path)?);
        }
    }
    debian.suites.iter().map(|suite| line(debian, suite, &known)).collect()
}

fn line(debian: &Debian, suite: &str, known: &[Source]) -> Result<String, InstallerError> {
    let serves = |source: &&Source| {
        source.suite == suite && debian.components.iter().all(|component| source.components.contains(component))
    };
    let missing = || InstallerError::SuiteMissing { suite: suite.to_owned(), components: debian.components.join(" ") };
    let source = known.iter().find(serves).ok_or_else(missing)?;
    let options = if source.options.is_empty() { String::new() } else { format!("[{}] ", source.options.join(" ")) };
    Ok(format!("deb {options}{} {suite} {}", source.uri, debian.components.join(" ")))
}

fn read(path: &Path) -> Result<Vec<Source>, InstallerError> {
    match path.extension().and_then(|extension| extension.to_str()) {
        Some("list") => Ok(files::read_text(path)?.lines().filter_map(one_line).collect()),
        Some("sources") => Ok(files::read_text(path)?.split("\n\n").flat_map(stanza).collect()),
        // APT itself reads no other files.
        Some(_) | None => Ok(Vec::new()),
    }
}

/// `deb [options] uri suite component…`
fn one_line(line: &str) -> Option<Source> {
    let rest = line.split('#').next()?.trim().strip_prefix("deb")?;
    if !rest.starts_with([' ', '\t']) {
        return None;
    }
    let rest = rest.trim_start();
    let (options, rest) = match rest.strip_prefix('[') {
        Some(bracket) => bracket.split_once(']')?,
        None => ("", rest),
    };
    let mut words = rest.split_whitespace().map(str::to_owned);
    let (uri, suite) = (words.next()?, words.next()?);
    Some(Source { uri, suite, components: words.collect(), options: kept_options(options.split_whitespace()) })
}

/// A stanza of a `.sources` file; several URIs and suites are several sources.
fn stanza(text: &str) -> Vec<Source> {
    let field = |name: &str| {
        text.lines()
            .filter(|line| !line.starts_with('#'))
            .find_map(|line| line.split_once(':').filter(|(key, _)| key.eq_ignore_ascii_case(name)))
            .map_or("", |(_, value)| value.trim())
    };
    if !field("Types").split_whitespace().any(|kind| kind == "deb") || field("Enabled").eq_ignore_ascii_case("no") {
        return Vec::new();
    }
    let mut options = Vec::new();
    // A key that stands in the file itself cannot go into a one-line source; the usual keyrings then have to know it.
    if field("Signed-By").starts_with('/') {
        options.push(format!("signed-by={}", field("Signed-By")));
    }
    if field("Trusted").eq_ignore_ascii_case("yes") {
        options.push("trusted=yes".to_owned());
    }
    let components: Vec<String> = field("Components").split_whitespace().map(str::to_owned).collect();
    let mut found = Vec::new();
    for uri in field("URIs").split_whitespace() {
        for suite in field("Suites").split_whitespace() {
            let (uri, suite) = (uri.to_owned(), suite.to_owned());
            found.push(Source { uri, suite, components: components.clone(), options: options.clone() });
        }
    }
    found
}

fn kept_options<'a>(options: impl Iterator<Item = &'a str>) -> Vec<String> {
    options
        .filter(|option| option.starts_with("signed-by=") || option.starts_with("trusted="))
        .map(str::to_owned)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn debian(suites: &[&str]) -> Debian {
        Debian {
            architecture: "amd64".to_owned(),
            suites: suites.iter().map(|suite| (*suite).to_owned()).collect(),
            components: vec!["main".to_owned()],
            packages: Vec::new(),
            exclude: Vec::new(),
            keep: Vec::new(),
        }
    }

    #[test]
    fn both_forms_of_apt_sources_are_understood() {
        let etc = tempfile::tempdir().unwrap();
        std::fs::create_dir(etc.path().join("sources.list.d")).unwrap();
        std::fs::write(
            etc.path().join("sources.list"),
            "# deb http://off.example.org stable main\ndeb-src http://src.example.org stable main\n\
             deb [arch=amd64 signed-by=/k.gpg] http://sec.example.org stable-security main contrib # note\n",
        )
        .unwrap();
        std::fs::write(
            etc.path().join("sources.list.d/debian.sources"),
            "Types: deb\n# a remark: here\nURIs: http://deb.example.org/debian\nSuites: stable stable-updates\n\
             Components: main\nSigned-By: /keys.gpg\n\nTypes: deb\nEnabled: no\nURIs: http://no.example.org\nSuites: extra\n\
             Components: main\n",
        )
        .unwrap();
        let found = lines(&debian(&["stable", "stable-updates", "stable-security"]), None, etc.path()).unwrap();
        assert_eq!(
            found,
            [
                "deb [signed-by=/keys.gpg] http://deb.example.org/debian stable main",
                "deb [signed-by=/keys.gpg] http://deb.example.org/debian stable-updates main",
                "deb [signed-by=/k.gpg] http://sec.example.org stable-security main",
            ]
        );
        let error = lines(&debian(&["extra"]), None, etc.path()).unwrap_err().to_string();
        assert!(error.contains("extra with main") && error.contains("--sources"), "{error}");
    }
}
