//! Recorded behaviour of a real 80286 in real mode, where the vectors are there: `TABVISOR_GUESTS` or the folder
//! beside the repository names them.

use tabvisor_tests::sst286;

#[test]
fn real_mode_agrees_with_a_286() {
    let path = sst286::archive();
    if !path.exists() {
        println!("not run: {} is not there (TABVISOR_GUESTS names its folder)", path.display());
        return;
    }
    let forms = sst286::load(&path).expect("an archive of vectors");
    let tallies = sst286::run(&forms);
    let different: Vec<String> =
        tallies.iter().filter_map(|(form, t)| t.first.as_ref().map(|f| format!("{form}: {f}"))).collect();
    assert!(different.is_empty(), "{}", different.join("\n"));
    let (tests, agree) = tallies.values().fold((0, 0), |n, t| (n.0 + t.tests, n.1 + t.agree));
    assert!(agree * 100 > tests * 97, "only {agree} of {tests} vectors were compared and agree");
}
