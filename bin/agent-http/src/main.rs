//! HTTP endpoints as agents: serves the calls that a YAML file declares.

use clap::Parser;
use http_agent::agent;
use process::ProcessArgs;

const EXAMPLES: &str = "\
Examples:
  agent-http shop.yaml                       serve what the file declares
  agent-http shop.yaml --slots 4             four calls at once

The file:
  kind: shop
  version: 1.0.0
  allow_private: [shop.internal]             # else only public addresses are called
  headers: {Authorization: Bearer secret://env/SHOP_TOKEN}
  capabilities:
    get-order:
      url: https://shop.internal/orders/{order}        # fields of the input, encoded
      query: {lang: \"{lang?}\"}                         # left out where it is missing
      timeout: 10s
    place-order:
      method: POST
      url: https://shop.internal/orders
      body: {article: \"{article}\", count: \"{count}\"}   # or input, or none
      retry: {attempts: 5}                             # 429 and 5xx; other 4xx fail at once";

/// Serves the HTTP calls that a file declares: fields of the input fill them, the answer is the result
#[derive(Debug, Parser)]
#[command(name = "agent-http", version, after_help = EXAMPLES)]
struct Cli {
    #[command(flatten)]
    agent: agent::Args,
    #[command(flatten)]
    process: ProcessArgs,
}

fn main() -> ! {
    let cli = Cli::parse();
    process::run(agent::PROGRAM, &cli.process, |process| agent::serve(cli.agent, process))
}
