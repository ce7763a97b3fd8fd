//! The engines under test. Each intended difference has a name, defined only in `docs/engines.md`.

/// The engine that moves the bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Engine {
    /// In the program itself.
    Native,
    /// A real HAProxy.
    HaProxy,
}

/// All engines.
pub(crate) const ENGINES: [Engine; 2] = [Engine::Native, Engine::HaProxy];

/// The engine under test: `POINTSMAN_TEST_ENGINE`, native unless given.
pub(crate) fn engine() -> Engine {
    let Ok(wanted) = std::env::var("POINTSMAN_TEST_ENGINE") else { return Engine::Native };
    let named = |engine: &Engine| engine.name() == wanted;
    ENGINES.into_iter().find(named).unwrap_or_else(|| panic!("POINTSMAN_TEST_ENGINE: {wanted:?} is no engine"))
}

impl Engine {
    /// The value for `--engine`.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Native => "native",
            Self::HaProxy => "haproxy",
        }
    }

    /// Whether this engine differs from the native one in the point that `docs/engines.md` lists under this name. A
    /// tidy test compares the names with the page.
    pub(crate) fn differs(self, difference: &str) -> bool {
        assert!(!difference.is_empty());
        self == Self::HaProxy
    }
    /// Whether this engine accepts a row of `crates/wire/vectors` that the native one refuses: those that
    /// `docs/engines.md` names under this heading.
    pub(crate) fn accepts(self, heading: &str, row: &str) -> bool {
        self == Self::HaProxy && accepted(heading).any(|name| name == row)
    }
}

/// The rows that HAProxy accepts, by heading.
pub(crate) fn accepted(heading: &str) -> impl Iterator<Item = &'static str> {
    let page = include_str!("../../../../../docs/engines.md");
    let (_, section) = page.split_once(&format!("\n### {heading}\n")).expect("a section of that name");
    let section = section.split("\n#").next().unwrap_or(section);
    section.split('`').skip(1).step_by(2)
}
