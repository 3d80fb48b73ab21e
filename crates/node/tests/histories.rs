//! Chosen histories of one member; the canon of known bugs runs them, too.

#[path = "histories/mod.rs"]
mod chosen;
#[allow(dead_code, reason = "each test binary uses a part of it")]
mod hand;

#[test]
fn an_answer_to_an_earlier_life_runs_no_read() {
    chosen::an_answer_to_an_earlier_life_runs_no_read();
}

#[test]
fn entries_read_for_one_place_are_not_sent_for_another() {
    chosen::entries_read_for_one_place_are_not_sent_for_another();
}

#[test]
fn what_is_durable_may_be_replaced_before_it_is_safe_to_store() {
    chosen::what_is_durable_may_be_replaced_before_it_is_safe_to_store();
}

#[test]
fn what_must_be_held_again_is_named_once_leadership_is_confirmed() {
    chosen::what_must_be_held_again_is_named_once_leadership_is_confirmed();
}
