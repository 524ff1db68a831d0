//! Where settings come from: a profile, the file, the environment, flags. And the default file that is written for
//! people.
//!
//! In: texts with their source. Out: [`Settings`], or an error that names the source, the key, the value and the
//! remedy.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use super::{Settings, TABLE, find};

/// A setting that cannot be taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadSetting(pub String);

impl std::fmt::Display for BadSetting {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for BadSetting {}

/// The environment variable of a key.
pub fn variable(key: &str) -> String {
    format!("CORERING_{}", key.to_ascii_uppercase().replace('-', "_"))
}

/// The profiles that the binary has: settings for a purpose, by name. What each was measured to do is in
/// `tuning/README.md`.
pub static PROFILES: &[(&str, &str)] = &[
    ("latency", include_str!("../../tuning/profiles/latency.toml")),
    ("throughput", include_str!("../../tuning/profiles/throughput.toml")),
    ("shared-host", include_str!("../../tuning/profiles/shared-host.toml")),
    ("container", include_str!("../../tuning/profiles/container.toml")),
];

/// Which key among flags, and which variable, name a profile.
pub const PROFILE: &str = "profile";

/// The variable that names the settings file.
const CONFIG_VARIABLE: &str = "CORERING_CONFIG";

/// Variables of tests and benches, which servers that they start may inherit.
const FOREIGN_VARIABLES: &[&str] =
    &["CORERING_TEST_", "CORERING_BENCH_", "CORERING_DIFFERENTIAL_", "CORERING_CI_", "CORERING_REQUIRE_CLIENTS"];

/// Where a server's settings came from, beside the environment and flags.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Origin {
    /// The settings file, as an absolute path; `CONFIG REWRITE` writes it again.
    pub file: Option<PathBuf>,
    /// The profile.
    pub profile: Option<String>,
}

/// The profile that flags or else the environment name.
pub fn profile(environment: impl Fn(&str) -> Option<OsString>, flags: &[(String, String)]) -> Option<String> {
    let given = flags.iter().rfind(|(key, _)| key == PROFILE).map(|(_, name)| name.clone());
    given.or_else(|| environment(&variable(PROFILE)).map(|name| name.to_string_lossy().into_owned()))
}

/// The key that was meant, if one is like it; letters that have changed places are one mistake.
fn nearest(name: &str, keys: impl Iterator<Item = &'static str>) -> Option<&'static str> {
    const LIKENESS_MIN: f64 = 0.6;
    let name = name.to_ascii_lowercase().replace('_', "-");
    let likeness = keys.map(|key| (strsim::normalized_damerau_levenshtein(&name, key), key));
    let nearest = likeness.max_by(|one, other| one.0.total_cmp(&other.0));
    nearest.filter(|(like, _)| *like > LIKENESS_MIN).map(|(_, key)| key)
}

fn remedy(meant: Option<String>) -> String {
    meant.map_or_else(|| "`corering config` lists them all".to_owned(), |meant| format!("did you mean {meant}?"))
}

/// A line for each variable of the environment that looks like a setting's and is none.
pub fn unknown_variables(names: impl IntoIterator<Item = String>) -> Vec<String> {
    const OURS: &str = "CORERING_";
    let keys = || TABLE.iter().map(|setting| setting.key).chain([PROFILE, "config"]);
    let known: Vec<String> = keys().map(variable).collect();
    let is_unknown = |name: &String| {
        let is_ours = name.starts_with(OURS) && !known.contains(name);
        is_ours && !FOREIGN_VARIABLES.iter().any(|begin| name.starts_with(begin))
    };
    let line = |name: String| {
        let remedy = remedy(nearest(&name[OURS.len()..], keys()).map(variable));
        format!("the variable {name} sets nothing, for there is no such setting; {remedy}")
    };
    names.into_iter().filter(is_unknown).map(line).collect()
}

/// Builds settings from a profile, a file, the environment and flags, each overriding the ones before.
///
/// # Errors
/// The first value that cannot be taken.
pub fn load(
    file: Option<&Path>,
    environment: impl Fn(&str) -> Option<OsString>,
    flags: &[(String, String)],
) -> Result<Settings, BadSetting> {
    let mut settings = Settings::default();
    if let Some(name) = profile(&environment, flags) {
        apply_profile(&mut settings, &name)?;
    }
    if let Some(path) = file {
        apply_file(&mut settings, path)?;
    }
    for setting in TABLE {
        let name = variable(setting.key);
        if let Some(value) = environment(&name) {
            let value = value.into_string().map_err(|_| BadSetting(format!("{name}: its value is no UTF-8 text")))?;
            apply(&mut settings, setting.key, &value, &name)?;
        }
    }
    for (key, value) in flags.iter().filter(|(key, _)| key != PROFILE) {
        apply(&mut settings, key, value, &format!("--{key}"))?;
    }
    settings.check().map_err(BadSetting)?;
    Ok(settings)
}

fn apply(settings: &mut Settings, key: &str, value: &str, source: &str) -> Result<(), BadSetting> {
    let Some(setting) = find(key) else {
        let remedy = remedy(nearest(key, TABLE.iter().map(|setting| setting.key)).map(str::to_owned));
        return Err(BadSetting(format!("{source}: there is no setting {key:?}; {remedy}")));
    };
    (setting.set)(settings, value).map_err(|error| {
        let shown = if setting.is_secret() { "(hidden)" } else { value };
        BadSetting(format!("{source}: {shown:?} {error}"))
    })
}

fn apply_profile(settings: &mut Settings, name: &str) -> Result<(), BadSetting> {
    let Some((_, text)) = PROFILES.iter().find(|(known, _)| *known == name) else {
        let names = PROFILES.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ");
        return Err(BadSetting(format!("profile: there is no {name:?}; there are {names}, and --config takes a file")));
    };
    apply_text(settings, text, &format!("profile {name}"))
}

fn apply_file(settings: &mut Settings, path: &Path) -> Result<(), BadSetting> {
    let source = path.display().to_string();
    let text =
        std::fs::read_to_string(path).map_err(|error| BadSetting(format!("{source}: cannot be read: {error}")))?;
    apply_text(settings, &text, &source)
}

fn apply_text(settings: &mut Settings, text: &str, source: &str) -> Result<(), BadSetting> {
    let bad = |what: String| BadSetting(format!("{source}: {what}"));
    let table: toml::Table = text.parse().map_err(|error: toml::de::Error| {
        let line = error.span().map_or(1, |span| text[..span.start].matches('\n').count() + 1);
        bad(format!("line {line}: {}", error.message()))
    })?;
    for (key, value) in &table {
        let value = match value {
            toml::Value::String(text) => text.clone(),
            toml::Value::Integer(number) => number.to_string(),
            toml::Value::Boolean(flag) => if *flag { "yes" } else { "no" }.to_owned(),
            toml::Value::Array(items) => {
                let items = items.iter().map(|item| item.as_str().map_or_else(|| item.to_string(), str::to_owned));
                items.collect::<Vec<_>>().join(" ")
            }
            other => return Err(bad(format!("{key}: a {} is no value for a setting", other.type_str()))),
        };
        apply(settings, key, &value, &format!("{source}: {key}"))?;
    }
    Ok(())
}

/// The settings as a file, each with its documentation; values that are the default are commented out.
pub fn render(settings: &Settings) -> String {
    let defaults = Settings::default();
    let mut text = String::from("# Settings of Corering. Lines that begin with # show the defaults.\n");
    let mut group = "";
    for setting in TABLE {
        if setting.group != group {
            group = setting.group;
            text.push_str(&format!("\n# --- {group} ---\n"));
        }
        let value = (setting.get)(settings);
        let mark = if value == (setting.get)(&defaults) { "# " } else { "" };
        let is_number =
            !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit()) && setting.key != "unixsocketperm";
        let value = if is_number { value } else { toml::Value::String(value).to_string() };
        let change = if setting.is_mutable { "" } else { " Needs a restart." };
        text.push_str(&format!(
            "\n# {}{change}\n# Takes {}\n{mark}{} = {value}\n",
            setting.doc,
            (setting.form)(),
            setting.key
        ));
    }
    text
}

/// Writes the settings to their file: whole, or not at all.
///
/// # Errors
/// When the file or its folder cannot be written.
pub fn rewrite(settings: &Settings, path: &Path) -> std::io::Result<()> {
    let mut draft = path.as_os_str().to_owned();
    draft.push(".new");
    std::fs::write(&draft, render(settings))?;
    std::fs::rename(&draft, path)
}

/// The settings file named by the environment, if any.
pub fn file_from_environment() -> Option<PathBuf> {
    std::env::var_os(CONFIG_VARIABLE).map(PathBuf::from)
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStringExt;

    use super::*;

    fn nothing(_: &str) -> Option<OsString> {
        None
    }

    #[test]
    fn the_default_file_reads_back_even_with_its_comments_removed() {
        let text = render(&Settings::default());
        let uncommented: String = text
            .lines()
            .map(|line| {
                line.strip_prefix("# ")
                    .filter(|rest| rest.split_once(" = ").is_some_and(|(key, _)| find(key).is_some()))
                    .unwrap_or(line)
            })
            .map(|line| format!("{line}\n"))
            .collect();
        for text in [text, uncommented] {
            let file = tempfile::NamedTempFile::new().unwrap();
            std::fs::write(file.path(), &text).unwrap();
            assert_eq!(load(Some(file.path()), nothing, &[]).unwrap(), Settings::default(), "{text}");
        }
    }

    #[test]
    fn a_rewritten_file_reads_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("corering.toml");
        let settings = Settings { maxclients: 17, requirepass: "a \"b\"".into(), ..Settings::default() };
        rewrite(&settings, &path).unwrap();
        assert_eq!(load(Some(&path), nothing, &[]).unwrap(), settings);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "no draft is left");
    }

    #[test]
    fn later_sources_override_earlier_ones() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "port = 1001\nmaxclients = 7\nbind = [\"127.0.0.1\", \"::1\"]\n").unwrap();
        let environment = |name: &str| (name == "CORERING_PORT").then(|| "1002".into());
        let settings = load(Some(file.path()), environment, &[]).unwrap();
        assert_eq!((settings.port, settings.maxclients, settings.bind.len()), (1002, 7, 2));
        let flags = [("port".to_owned(), "1003".to_owned())];
        assert_eq!(load(Some(file.path()), environment, &flags).unwrap().port, 1003);
    }

    #[test]
    fn profiles_yield_to_everything_else() {
        for (name, text) in PROFILES {
            let flags = [(PROFILE.to_owned(), (*name).to_owned())];
            let settings = load(None, nothing, &flags).unwrap();
            let table: toml::Table = text.parse().unwrap();
            let defaults = Settings::default();
            for key in table.keys() {
                let get = find(key).unwrap().get;
                assert_ne!(get(&settings), get(&defaults), "{name}: {key} is the default");
            }
            let differs = TABLE.iter().filter(|setting| (setting.get)(&settings) != (setting.get)(&defaults)).count();
            assert_eq!(differs, table.len(), "{name}");
        }
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "tick-requests = 7\n").unwrap();
        let environment = |name: &str| (name == "CORERING_PROFILE").then(|| "latency".into());
        assert_eq!(load(None, environment, &[]).unwrap().send_bytes, 64 << 10);
        let settings = load(Some(file.path()), environment, &[("send-bytes".to_owned(), "8kb".to_owned())]).unwrap();
        assert_eq!((settings.tick_requests, settings.send_bytes), (7, 8192));
        let error = load(None, nothing, &[(PROFILE.to_owned(), "speed".to_owned())]).unwrap_err().0;
        assert!(error.contains("latency, throughput, shared-host, container"), "{error}");
    }

    #[test]
    fn variables_that_set_nothing_are_named_with_what_is_near() {
        let rows = [
            ("CORERING_MAX_MEMORY", Some("did you mean CORERING_MAXMEMORY?")),
            ("CORERING_HTTPPORT", Some("did you mean CORERING_HTTP_PORT?")),
            ("CORERING_PROT", Some("did you mean CORERING_PORT?")),
            ("CORERING_PROFIL", Some("did you mean CORERING_PROFILE?")),
            ("CORERING_SERVICE_HOST", Some("`corering config` lists them all")),
            ("CORERING_MAXMEMORY", None),
            ("CORERING_PROFILE", None),
            ("CORERING_CONFIG", None),
            ("CORERING_TEST_PYTHON", None),
            ("CORERING_REQUIRE_CLIENTS", None),
            ("CORERINGS", None),
            ("PATH", None),
        ];
        for (name, expected) in rows {
            let lines = unknown_variables([name.to_owned()]);
            assert_eq!(lines.len(), usize::from(expected.is_some()), "{lines:?}");
            assert!(lines.iter().all(|line| line.contains(name) && line.ends_with(expected.unwrap())), "{lines:?}");
        }
    }

    #[test]
    fn errors_name_their_source() {
        let flags = [("port".to_owned(), "70000".to_owned())];
        assert_eq!(
            load(None, nothing, &flags).unwrap_err().0,
            "--port: \"70000\" is out of range; it takes 0 to 65535"
        );
        let environment = |name: &str| (name == "CORERING_SPIN").then(|| "x".into());
        assert!(load(None, environment, &[]).unwrap_err().0.starts_with("CORERING_SPIN: \"x\" is no duration"));
        let not_text = |name: &str| (name == "CORERING_PORT").then(|| OsString::from_vec(vec![0xff]));
        assert!(load(None, not_text, &[]).unwrap_err().0.starts_with("CORERING_PORT: its value is no UTF-8"));
        let file = tempfile::NamedTempFile::new().unwrap();
        let rows = [
            ("prot = 1\n", "there is no setting \"prot\"; did you mean port?"),
            ("nonsense = 1\n", "there is no setting \"nonsense\"; `corering config` lists them all"),
            ("\nport =\n", "line 2"),
            ("port = 1\nport = 2\n", "line 2"),
            ("port = {}\n", "no value"),
        ];
        for (text, what) in rows {
            std::fs::write(file.path(), text).unwrap();
            let error = load(Some(file.path()), nothing, &[]).unwrap_err().0;
            assert!(error.contains(what) && error.contains(file.path().to_str().unwrap()), "{error}");
        }
    }
}
