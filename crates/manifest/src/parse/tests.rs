use super::*;

fn refusal(text: &str) -> String {
    let error = parse("k8s/web.yaml", text).expect_err("the text must be refused");
    match error.hint() {
        Some(hint) => format!("{error}\nhint: {hint}"),
        None => error.to_string(),
    }
}

#[test]
fn documents_lists_and_comments_become_objects_with_their_place() {
    let text = "# a comment\n---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\n---\n---\n# nothing\n---\napiVersion: v1\nkind: List\nitems:\n- {apiVersion: v1, kind: Secret, metadata: {name: b}}\n- {apiVersion: v1, kind: Service, metadata: {name: c}}\n";
    let objects = parse("web.yaml", text).expect("valid");
    let seen: Vec<String> = objects
        .iter()
        .map(|object| format!("{} ({})", object.identity(), object.origin()))
        .collect();
    assert_eq!(
        seen,
        [
            "configmap/a (web.yaml, document 1, line 3)",
            "secret/b (web.yaml, document 4, line 10)",
            "service/c (web.yaml, document 4, line 10)",
        ]
    );
}

#[test]
fn scalars_mean_what_they_mean_to_kubectl() {
    let text = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\nmode: 0644\nflag: yes\nwhole: 1.0\nhalf: 0.5\ndate: 2024-01-01\nquoted: 'no'\n";
    let objects = parse("a.yaml", text).expect("valid");
    let value = objects[0].value();
    assert_eq!(value["mode"], 420);
    assert_eq!(value["flag"], true);
    assert_eq!(value["whole"].to_string(), "1");
    assert_eq!(value["half"].to_string(), "0.5");
    assert_eq!(value["date"], "2024-01-01");
    assert_eq!(value["quoted"], "no");
}

#[test]
fn anchors_and_merge_keys_are_resolved() {
    let text = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\nbase: &base {x: 1, y: 2}\nuse:\n  <<: *base\n  y: 3\n";
    let objects = parse("a.yaml", text).expect("valid");
    assert_eq!(objects[0].value()["use"]["x"], 1);
    assert_eq!(objects[0].value()["use"]["y"], 3);
}

#[test]
fn what_is_no_yaml_is_refused_with_document_line_and_column() {
    let refusals = [
        "a: 1\n---\nb: 2\n---\nc:\n  d: 1\n e: 3\n",
        "image: {{ .Values.image }}\n",
        "kind: A\nkind: B\n",
        "kind: A\nspec:\n\treplicas: 1\n",
    ]
    .map(refusal);
    insta::assert_snapshot!(refusals.join("\n"));
}

#[test]
fn what_is_no_object_is_refused_with_its_place() {
    let refusals = [
        "- 1\n",
        "just text\n",
        "kind: Service\nmetadata: {name: web}\n",
        "apiVersion: v1\nkind: 3\nmetadata: {name: web}\n",
        "apiVersion: v1\nkind: Service\n",
        "apiVersion: v1\nkind: Service\nmetadata: {name: Web_1}\n",
        "apiVersion: batch/v1\nkind: Job\nmetadata: {generateName: migrate-}\n",
        "apiVersion: v1\nkind: Service\nmetadata: {name: web, labels: {version: 1.10}}\n",
        "apiVersion: v1\nkind: Service\nmetadata: {name: web, annotations: [a]}\n",
        "apiVersion: v1\nkind: List\nitems: 7\n",
    ]
    .map(refusal);
    insta::assert_snapshot!(refusals.join("\n"));
}

#[test]
fn an_object_that_is_declared_twice_is_refused() {
    let text = "apiVersion: v1\nkind: Service\nmetadata: {name: web}\n---\napiVersion: v1\nkind: Service\nmetadata: {name: web}\n";
    let objects = parse("web.yaml", text).expect("each is valid");
    let error = refuse_duplicates(&objects).expect_err("twice");
    assert_eq!(
        error.to_string(),
        "service/web is declared twice: web.yaml, document 1, line 1 and web.yaml, document 2, line 5"
    );
}
