//! Which language a text is written in, by its name and its first line.

use std::path::Path;

/// What no text is.
pub(crate) const BINARY: &str = "binary";
/// A text of which nothing more is known.
pub(crate) const TEXT: &str = "text";

/// File names as a whole, in lower case.
const NAMES: &[(&str, &str)] = &[
    (".bash_profile", "shell"),
    (".bashrc", "shell"),
    (".dockerignore", "ignore list"),
    (".editorconfig", "ini"),
    (".gitattributes", "git attributes"),
    (".gitconfig", "ini"),
    (".gitignore", "ignore list"),
    (".profile", "shell"),
    (".zshrc", "shell"),
    ("build", "starlark"),
    ("build.bazel", "starlark"),
    ("cargo.lock", "toml"),
    ("cmakelists.txt", "cmake"),
    ("containerfile", "dockerfile"),
    ("dockerfile", "dockerfile"),
    ("gemfile", "ruby"),
    ("gnumakefile", "make"),
    ("go.mod", "go module"),
    ("go.sum", "go module"),
    ("jenkinsfile", "groovy"),
    ("justfile", "just"),
    ("makefile", "make"),
    ("pipfile", "toml"),
    ("poetry.lock", "toml"),
    ("rakefile", "ruby"),
    ("vagrantfile", "ruby"),
];

/// Extensions, in lower case, without the dot.
const EXTENSIONS: &[(&str, &str)] = &[
    ("adoc", "asciidoc"),
    ("asm", "assembly"),
    ("avsc", "json"),
    ("awk", "awk"),
    ("bash", "shell"),
    ("bat", "batch"),
    ("bzl", "starlark"),
    ("c", "c"),
    ("cc", "c++"),
    ("cfg", "ini"),
    ("clj", "clojure"),
    ("cmake", "cmake"),
    ("conf", "config"),
    ("cpp", "c++"),
    ("cs", "c#"),
    ("css", "css"),
    ("csv", "csv"),
    ("cxx", "c++"),
    ("dart", "dart"),
    ("diff", "diff"),
    ("el", "lisp"),
    ("erl", "erlang"),
    ("ex", "elixir"),
    ("exs", "elixir"),
    ("fish", "fish"),
    ("fs", "f#"),
    ("go", "go"),
    ("gradle", "groovy"),
    ("graphql", "graphql"),
    ("groovy", "groovy"),
    ("h", "c"),
    ("hcl", "hcl"),
    ("hpp", "c++"),
    ("hs", "haskell"),
    ("htm", "html"),
    ("html", "html"),
    ("ini", "ini"),
    ("ipynb", "jupyter notebook"),
    ("java", "java"),
    ("jl", "julia"),
    ("js", "javascript"),
    ("json", "json"),
    ("jsonl", "json lines"),
    ("jsx", "javascript"),
    ("kt", "kotlin"),
    ("kts", "kotlin"),
    ("less", "less"),
    ("lisp", "lisp"),
    ("log", "log"),
    ("lua", "lua"),
    ("m", "objective-c"),
    ("markdown", "markdown"),
    ("md", "markdown"),
    ("mjs", "javascript"),
    ("mk", "make"),
    ("ml", "ocaml"),
    ("mli", "ocaml"),
    ("ndjson", "json lines"),
    ("nim", "nim"),
    ("nix", "nix"),
    ("patch", "diff"),
    ("php", "php"),
    ("pl", "perl"),
    ("pm", "perl"),
    ("properties", "properties"),
    ("proto", "protobuf"),
    ("ps1", "powershell"),
    ("py", "python"),
    ("pyi", "python"),
    ("r", "r"),
    ("rb", "ruby"),
    ("rs", "rust"),
    ("rst", "restructuredtext"),
    ("s", "assembly"),
    ("sass", "sass"),
    ("scala", "scala"),
    ("scm", "scheme"),
    ("scss", "scss"),
    ("sh", "shell"),
    ("snap", "snapshot"),
    ("sql", "sql"),
    ("svelte", "svelte"),
    ("svg", "svg"),
    ("swift", "swift"),
    ("tcl", "tcl"),
    ("tex", "tex"),
    ("tf", "hcl"),
    ("toml", "toml"),
    ("ts", "typescript"),
    ("tsv", "tsv"),
    ("tsx", "typescript"),
    ("txt", "text"),
    ("vim", "vim script"),
    ("vue", "vue"),
    ("xml", "xml"),
    ("xsd", "xml"),
    ("yaml", "yaml"),
    ("yml", "yaml"),
    ("zig", "zig"),
    ("zsh", "shell"),
];

/// Programs in a `#!` line, without version numbers.
const PROGRAMS: &[(&str, &str)] = &[
    ("awk", "awk"),
    ("bash", "shell"),
    ("dash", "shell"),
    ("deno", "typescript"),
    ("fish", "fish"),
    ("gawk", "awk"),
    ("ksh", "shell"),
    ("lua", "lua"),
    ("make", "make"),
    ("node", "javascript"),
    ("perl", "perl"),
    ("php", "php"),
    ("pwsh", "powershell"),
    ("python", "python"),
    ("rscript", "r"),
    ("ruby", "ruby"),
    ("sh", "shell"),
    ("tclsh", "tcl"),
    ("zsh", "shell"),
];

/// The language of a text: by its whole name, else its extension, else its `#!` line, else [`TEXT`].
pub(crate) fn of_text(path: &Path, first_line: &str) -> &'static str {
    let name = path.file_name().map(|name| name.to_string_lossy().to_lowercase()).unwrap_or_default();
    let extension = name.rsplit_once('.').map_or("", |(_, extension)| extension);
    find(NAMES, &name)
        .or_else(|| find(EXTENSIONS, extension))
        .or_else(|| find(PROGRAMS, &program(first_line)?))
        .unwrap_or(TEXT)
}

/// `python` of `#!/usr/bin/env -S python3.12 -u`.
fn program(first_line: &str) -> Option<String> {
    let mut words = first_line.strip_prefix("#!")?.split_whitespace();
    let file_name = |path: &str| path.rsplit('/').next().map(str::to_lowercase);
    let mut program = file_name(words.next()?)?;
    if program == "env" {
        program = file_name(words.find(|word| !word.starts_with('-') && !word.contains('='))?)?;
    }
    Some(program.trim_end_matches(|character: char| character.is_ascii_digit() || character == '.').to_owned())
}

fn find(table: &[(&str, &'static str)], key: &str) -> Option<&'static str> {
    let index = table.binary_search_by_key(&key, |(known, _)| known).ok()?;
    table.get(index).map(|(_, language)| *language)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_go_before_extensions_and_those_before_the_first_line() {
        for (path, first_line, language) in [
            ("src/main.rs", "", "rust"),
            ("README.MD", "", "markdown"),
            ("CMakeLists.txt", "", "cmake"),
            ("Cargo.lock", "", "toml"),
            ("Makefile", "", "make"),
            (".gitignore", "", "ignore list"),
            ("a.tar.py", "", "python"),
            ("run", "#!/bin/sh", "shell"),
            ("run", "#! /usr/bin/env -S LANG=C python3.12 -u", "python"),
            ("run.unknown", "#!/usr/bin/perl -w", "perl"),
            ("run.js", "#!/bin/sh", "javascript"),
            ("run", "#!/opt/strange", "text"),
            ("run", "#!", "text"),
            ("run", "#!/usr/bin/env", "text"),
            ("LICENSE", "Apache License", "text"),
            ("..", "", "text"),
        ] {
            assert_eq!(of_text(Path::new(path), first_line), language, "{path} {first_line}");
        }
    }

    #[test]
    fn tables_are_sorted_because_they_are_searched() {
        for table in [NAMES, EXTENSIONS, PROGRAMS] {
            assert!(table.is_sorted_by(|a, b| a.0 < b.0), "{table:?}");
        }
    }
}
