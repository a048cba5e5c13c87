//! Where a connection's settings come from, and what is refused.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::{fs, path::Path};

use clap::Parser;
use sortie_process::{
    ProcessArgs,
    settings::{Connection, Environment, Faults, Identity, SERVER_DEFAULT, Secret},
};

#[derive(Parser)]
struct Cli {
    #[command(flatten)]
    process: ProcessArgs,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(clap::Subcommand)]
enum Command {
    Submit { capability: String },
}

fn resolve(flags: &[&str], environment: &[(&str, &str)]) -> Result<Connection, Faults> {
    let cli = Cli::try_parse_from([&["sortie"], flags].concat()).unwrap();
    cli.process.connection.resolve(&Environment::of(environment.iter().copied()))
}

/// A folder for `XDG_CONFIG_HOME` with a context named `prod`.
fn with_context(json: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir_all(folder.path().join("nats/context")).unwrap();
    fs::write(folder.path().join("nats/context/prod.json"), json).unwrap();
    folder
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn places(faults: &Faults) -> Vec<&str> {
    faults.iter().map(|fault| fault.place.as_str()).collect()
}

#[test]
fn nothing_said_is_the_local_server_and_the_namespace_fleet() {
    let connection = resolve(&[], &[]).unwrap();
    assert_eq!(connection.servers, [SERVER_DEFAULT]);
    assert_eq!(connection.namespace.as_str(), "fleet");
    assert_eq!(connection.identity, Identity::Nobody);
}

#[test]
fn flags_go_before_our_variables_and_those_before_the_nats_ones() {
    let environment = [("SORTIE_SERVER", "ours"), ("NATS_URL", "natss"), ("SORTIE_NAMESPACE", "lab")];
    let connection = resolve(&["--server", "a:1,b:2", "--namespace", "field"], &environment).unwrap();
    assert_eq!(connection.servers, ["nats://a:1", "nats://b:2"]);
    assert_eq!(connection.namespace.as_str(), "field");
    let connection = resolve(&[], &environment).unwrap();
    assert_eq!(connection.servers, ["nats://ours"]);
    assert_eq!(connection.namespace.as_str(), "lab");
    assert_eq!(resolve(&[], &environment[1..2]).unwrap().servers, ["nats://natss"]);
}

#[test]
fn flags_are_accepted_before_and_after_a_subcommand() {
    for line in [["sortie", "--server", "a", "submit", "echo"], ["sortie", "submit", "echo", "--server", "a"]] {
        let cli = Cli::try_parse_from(line).unwrap();
        assert_eq!(cli.process.connection.server.as_deref(), Some("a"));
        assert!(matches!(cli.command, Some(Command::Submit { capability }) if capability == "echo"));
    }
}

#[test]
fn a_context_asked_for_goes_before_variables_and_one_named_by_a_variable_after_them() {
    let folder = with_context(r#"{"url": "nats://ctx", "user": "bob", "password": "p", "inbox_prefix": "_X"}"#);
    let xdg = ("XDG_CONFIG_HOME", text(folder.path()));
    let ours = [xdg, ("NATS_URL", "natss"), ("SORTIE_TOKEN", "t"), ("NATS_CONTEXT", "prod")];

    let asked = resolve(&["--context", "prod"], &ours).unwrap();
    assert_eq!(asked.servers, ["nats://ctx"]);
    assert_eq!(asked.identity, Identity::UserPassword("bob".into(), Secret::new("p")));
    assert_eq!(asked.inbox_prefix.as_deref(), Some("_X"));

    let named = resolve(&[], &ours).unwrap();
    assert_eq!(named.servers, ["nats://natss"]);
    assert_eq!(named.identity, Identity::Token(Secret::new("t")));
    assert_eq!(named.inbox_prefix.as_deref(), Some("_X"), "what nobody else says comes from the context");

    let flag = resolve(&["--context", "prod", "--server", "flag"], &ours).unwrap();
    assert_eq!(flag.servers, ["nats://flag"]);
}

#[test]
fn a_context_with_several_identities_is_read_as_its_own_tool_does() {
    let folder = with_context(r#"{"user": "bob", "password": "p", "creds": "/nowhere", "token": "t"}"#);
    let connection = resolve(&["--context", "prod"], &[("XDG_CONFIG_HOME", text(folder.path()))]).unwrap();
    assert_eq!(connection.identity, Identity::UserPassword("bob".into(), Secret::new("p")));
    assert_eq!(connection.servers, [SERVER_DEFAULT]);
}

#[test]
fn an_identity_is_taken_whole_from_the_first_that_says_one() {
    let folder = tempfile::tempdir().unwrap();
    let creds = folder.path().join("x.creds");
    fs::write(&creds, "jwt").unwrap();
    let environment = [("SORTIE_USER", "bob"), ("SORTIE_PASSWORD", "p"), ("NATS_TOKEN", "t")];
    let by_flag = resolve(&["--creds", text(&creds)], &environment).unwrap();
    assert_eq!(by_flag.identity, Identity::Credentials(creds));
    let by_variable = resolve(&[], &environment).unwrap();
    assert_eq!(by_variable.identity, Identity::UserPassword("bob".into(), Secret::new("p")));
    let password_apart = resolve(&["--user", "eve"], &environment[1..]).unwrap();
    assert_eq!(password_apart.identity, Identity::UserPassword("eve".into(), Secret::new("p")));
}

#[test]
fn a_user_in_an_address_is_taken_out_and_only_used_for_that_address() {
    let with_user = [("NATS_URL", "nats://bob:p@natss")];
    let connection = resolve(&[], &with_user).unwrap();
    assert_eq!(connection.servers, ["nats://natss"]);
    assert_eq!(connection.identity, Identity::UserPassword("bob".into(), Secret::new("p")));
    let elsewhere = resolve(&["--server", "other"], &with_user).unwrap();
    assert_eq!(elsewhere.identity, Identity::Nobody);
}

#[test]
fn an_nkey_is_read_from_its_file() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("x.nk");
    fs::write(&file, "# comment\n SUAMLK2ZNL35WSMW37E7UD4VZ7ELPKW7DHC3BWBSD2GCZ7IUQQXZIORRBU \n").unwrap();
    let connection = resolve(&["--nkey", text(&file)], &[]).unwrap();
    let Identity::NkeySeed(seed) = &connection.identity else { panic!("{connection:?}") };
    assert!(seed.expose().starts_with("SUAM") && seed.expose().ends_with("RRBU"));
    assert!(!format!("{connection:?}").contains("SUAM"));
    fs::write(&file, "nothing").unwrap();
    assert!(resolve(&["--nkey", text(&file)], &[]).is_err());
}

#[test]
fn every_fault_is_told_at_once() {
    let cli = Cli::try_parse_from([
        "sortie",
        "--server",
        "http://x",
        "--namespace",
        "No",
        "--creds",
        "/nowhere/c",
        "--user",
        "bob",
        "--tls-cert",
        "/nowhere/cert",
        "--metrics",
        "somewhere",
        "--context",
        "../x",
    ])
    .unwrap();
    let environment = Environment::of([("SORTIE_LOG", "a=b=c")]);
    let faults = cli.process.resolve(&environment, "info").unwrap_err();
    let expected = [
        "--namespace",
        "NATS context \"../x\"",
        "--server",
        "--user",
        "--creds",
        "--tls-cert",
        "SORTIE_LOG",
        "--metrics",
    ];
    assert_eq!(places(&faults), expected, "{faults}");
}

#[test]
fn all_of_it_reaches_the_broker() {
    let environment = [("SORTIE_SERVER", "nats://bob:p@a"), ("SORTIE_INBOX_PREFIX", "_X")];
    let options = resolve(&[], &environment).unwrap().options("agent");
    assert_eq!(options.servers, ["nats://a"]);
    assert_eq!(options.user_password, Some(("bob".into(), "p".into())));
    assert_eq!((options.name.as_str(), options.inbox_prefix.as_deref()), ("agent", Some("_X")));
    let options = resolve(&[], &[("SORTIE_TOKEN", "t")]).unwrap().options("agent");
    assert_eq!((options.token.as_deref(), options.user_password), (Some("t"), None));
}

#[test]
fn half_an_identity_is_none() {
    assert_eq!(places(&resolve(&["--user", "bob"], &[]).unwrap_err()), ["--user"]);
    let both = [("SORTIE_TOKEN", "t"), ("SORTIE_USER", "bob"), ("SORTIE_PASSWORD", "p")];
    let faults = resolve(&[], &both).unwrap_err();
    assert!(faults.to_string().contains("give one of them"), "{faults}");
}
