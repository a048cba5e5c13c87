//! The saga: an order is taken as a whole, or everything is as it was.

use anyhow::{Context, Result};
use protocol::Status;
use serde_json::{Value, json};

use crate::site::Site;

fn order(id: &str, kg: u64) -> Value {
    json!({ "order": id, "customer": "ann", "article": "anvil", "kg": kg, "cents": 9_900 })
}

#[tokio::test]
async fn an_order_is_taken_step_by_step() -> Result<()> {
    let site = Site::with_commands("shop.agent.yaml", "cancel-courier", "SHOP_DIR").await?;
    let name = site.apply(&["order.yaml"]).await?;
    let over = site.run(&name, "A-1", &order("A-1", 30)).await?;
    assert_eq!(over.output(), json!({ "invoice": "i-A-1", "parcel": "c-A-1" }));
    assert_eq!(site.lines("journal"), ["reserve A-1 anvil", "charge A-1 9900", "invoice A-1 p-A-1", "courier A-1 30"]);
    assert_eq!(over.outcomes(), ["reserve.0", "charge.0", "invoice.0", "courier.0"]);
    assert_eq!(site.event("orders.taken").await?, json!({ "order": "A-1", "parcel": "c-A-1" }));
    Ok(())
}

#[tokio::test]
async fn an_order_that_nobody_carries_is_undone_in_reverse_and_each_step_once() -> Result<()> {
    let site = Site::with_commands("shop.agent.yaml", "cancel-courier", "SHOP_DIR").await?;
    let name = site.apply(&["order.yaml"]).await?;
    let over = site.run(&name, "A-2", &order("A-2", 50)).await?;
    assert_eq!(over.outcome.status, Status::Failed);
    let failure = over.outcome.failure().context("a failure")?;
    assert!(failure.to_string().contains("courier"), "{failure:?}");
    // The courier took nothing on, so there is nobody to send away.
    assert_eq!(
        site.lines("journal"),
        [
            "reserve A-2 anvil",
            "charge A-2 9900",
            "invoice A-2 p-A-2",
            "cancel-invoice i-A-2",
            "refund p-A-2",
            "release r-A-2",
        ]
    );
    let undone = ["undo_invoice.0", "undo_charge.0", "undo_reserve.0"];
    assert_eq!(over.outcomes(), [&["reserve.0", "charge.0", "invoice.0", "courier.0"][..], &undone].concat());
    Ok(())
}
