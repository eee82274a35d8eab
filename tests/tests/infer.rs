//! An agent asks the model of its node, where the node has one, and does without where it has none.

use aquifer_node::Up;
use aquifer_node::api::{Deploy, Grants, Invoke, VerifyAgent};
use aquifer_tests::fleet::{Fleet, Runner};
use serde_json::{Value, json};

/// Asks how warm it is and answers what the model says, or `cold` if there is none.
const ASKS: &str = r#"(module
    (import "mva1" "infer" (func $infer (param i32 i32 i32 i32) (result i32)))
    (import "mva1" "publish" (func $publish (param i32 i32 i32 i32) (result i32)))
    (memory (export "memory") 1 1)
    (global (export "MVA_STATE") i32 (i32.const 1024))
    (global (export "MVA_INBOX") i32 (i32.const 4096))
    (data (i32.const 16) "how warm is it") (data (i32.const 64) "\64cold")
    (func (export "mva_abi") (result i32) (i32.const 1))
    (func (export "handle") (param i32 i32) (result i32) (local $n i32)
        (local.set $n (call $infer (i32.const 16) (i32.const 14) (i32.const 2049) (i32.const 23)))
        (if (i32.lt_s (local.get $n) (i32.const 0))
            (then (return (call $publish (i32.const 0) (i32.const 0) (i32.const 64) (i32.const 5)))))
        (i32.store8 (i32.const 2048) (i32.add (i32.const 0x60) (local.get $n)))
        (call $publish (i32.const 0) (i32.const 0) (i32.const 2048) (i32.add (local.get $n) (i32.const 1)))))"#;

fn asker(imports: &[&str]) -> Deploy {
    let module = wat::parse_str(ASKS).expect("good text");
    let imports = imports.iter().map(|name| (*name).to_owned());
    Deploy {
        name: "asker".into(),
        topic: Some("plant/agents".into()),
        module: data_encoding::BASE64.encode(&module),
        grants: Grants {
            imports: Some(imports.collect()),
            ..Grants::default()
        },
        ..Deploy::default()
    }
}

async fn says(node: &Runner, asked: Deploy) -> Value {
    let name = asked.name.clone();
    node.memory().agent_deploy(asked).await.expect("deploys");
    let invoked = node.memory().agent_invoke(&name, Invoke::default()).await;
    invoked.expect("it answers").said.unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_asks_the_model_of_its_node() {
    let fleet = Fleet::default();
    let up = Up {
        region: Some("eu".into()),
        infer: Some("tr a-z A-Z".into()),
        ..fleet.flags("a")
    };
    let a = fleet.starts("a", up).await.expect("founds");
    assert_eq!(
        json!("HOW WARM IS IT"),
        says(&a, asker(&["infer", "publish"])).await
    );
    // Whoever takes the step again needs no model: what it said is part of the step.
    let asked = VerifyAgent {
        engine: Some("kernel".into()),
        ..VerifyAgent::default()
    };
    let verified = a
        .memory()
        .agent_verify("asker", asked)
        .await
        .expect("checked");
    assert_eq!((1, 1), (verified.checked, verified.equal));
    // A manifest that does not grant it keeps the model from whoever is there.
    let other = Deploy {
        name: "other".into(),
        ..asker(&["publish"])
    };
    assert_eq!(json!("cold"), says(&a, other).await);
    a.stops().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_model_it_does_without() {
    let fleet = Fleet::default();
    let a = fleet.founds("a", "eu").await;
    assert_eq!(json!("cold"), says(&a, asker(&["infer", "publish"])).await);
    a.stops().await;
}
