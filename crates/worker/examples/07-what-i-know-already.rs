//! My agent asks a slow directory. What it said a moment ago need not be asked again, who is not in it is nobody and no
//! failure, and what I am asked for must be what my types say.
//!
//! ```text
//!   request -> retry rules -> schemas -> cache -> look-up      each has its place, whatever the order of the calls below
//! ```
//!
//! ```sh
//! sortie up                                                        # in one terminal
//! cargo run -p sortie-worker --example 07-what-i-know-already      # in another
//! sortie submit look-up '{"name": "ada", "age_min": 18}' --wait    # twice: the second time it is known
//! sortie submit look-up '{"name": "bob"}' --wait                   # nobody, and completed
//! sortie submit look-up '{"nome": "ada", "age_min": -1}' --wait    # every fault, by JSON pointer
//! ```

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use serde::{Deserialize, Serialize};
use sortie_worker::{
    Category, Context, Error, Failure, JsonSchema, Worker,
    layer::{Cache, RetryRules, Then, When},
};

#[derive(Deserialize, JsonSchema)]
struct Question {
    name: String,
    /// Leaves out who is younger.
    age_min: Option<u8>,
}

#[derive(Serialize, JsonSchema)]
struct Person {
    name: String,
    /// How often the directory was asked before.
    asked_before: u64,
}

/// The slow directory; it knows one person.
#[derive(Default)]
struct Directory {
    asked: AtomicU64,
}

async fn look_up(ctx: Context, question: Question) -> Result<Person, Failure> {
    let asked_before = ctx.shared::<Directory>().asked.fetch_add(1, Ordering::SeqCst);
    match question.name.as_str() {
        "ada" if question.age_min.unwrap_or(0) <= 36 => Ok(Person { name: question.name, asked_before }),
        "ada" => Err(Failure::new("too_young", "she is 36")),
        _ => Err(Failure::new("not_listed", format!("{} is not in the directory", question.name))),
    }
}

#[tokio::main]
async fn main() -> Result<(), Error> {
    let rules = RetryRules::new()
        .rule(When::code("not_listed"), Then::Substitute(serde_json::json!({ "name": "nobody", "asked_before": 0 })))
        .rule(When::code_matches("^too_"), Then::GiveUp)
        .rule(When::category(Category::Communication), Then::RetryAfter(Duration::from_secs(30)));
    Worker::builder("directory")
        .shared(Directory::default())
        .capability("look-up", look_up)
        .retry_rules(rules)
        .validated()
        .cache(Cache::new(Duration::from_secs(60), 8 * 1024 * 1024))
        .run()
        .await
}
