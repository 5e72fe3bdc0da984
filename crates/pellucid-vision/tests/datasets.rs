//! Data sets as people keep them, and as they break.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use pellucid_guard::Budget;
use pellucid_vision::dataset::{Dataset, DatasetOptions, DatasetWarning, FolderOrder, Format, Reading, Sample};
use pellucid_vision::picture::Picture;

/// A folder of files: names and contents. `*.png` gets a small picture whatever the content.
fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, content) in files {
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        match name.ends_with(".png") {
            true => fs::write(&path, picture(name).to_png().unwrap()).unwrap(),
            false => fs::write(&path, content).unwrap(),
        }
    }
    folder
}

/// A picture that depends on its name, so that mix-ups show.
fn picture(name: &str) -> Picture {
    let shade = name.bytes().fold(7u8, |sum, byte| sum.wrapping_mul(31).wrapping_add(byte));
    Picture::from_fn(4, 3, |x, y| [shade, x as u8, y as u8])
}

fn open(path: impl AsRef<Path>) -> Dataset {
    Dataset::open(path, &DatasetOptions::default()).unwrap()
}

fn error(path: impl AsRef<Path>, options: &DatasetOptions) -> String {
    Dataset::open(path, options).unwrap_err().to_string()
}

fn split(name: &str) -> DatasetOptions {
    DatasetOptions { split: Some(name.to_string()), ..DatasetOptions::default() }
}

fn names(names: &[&str]) -> DatasetOptions {
    let class_names = Some(names.iter().map(|name| name.to_string()).collect());
    DatasetOptions { class_names, ..DatasetOptions::default() }
}

fn files(dataset: &Dataset) -> Vec<(&str, usize)> {
    dataset.samples.iter().map(|sample| (sample.file.as_str(), sample.label)).collect()
}

fn table(name: &str, content: &str) -> (tempfile::TempDir, PathBuf) {
    let folder = folder(&[(name, content), ("a.png", ""), ("b.png", ""), ("c, d.png", "")]);
    let path = folder.path().join(name);
    (folder, path)
}

fn csv_error(content: &str) -> String {
    let (_folder, path) = table("list.csv", content);
    error(path, &DatasetOptions::default())
}

#[test]
fn folders_are_classes_in_sorted_order() {
    let root = folder(&[("dog/2.png", ""), ("cat/b.png", ""), ("cat/a.png", ""), ("cat/deep/c.png", "")]);
    let dataset = open(&root);
    assert_eq!(dataset.format, Format::Folders);
    assert_eq!(dataset.classes, ["cat", "dog"]);
    assert_eq!(files(&dataset), [("cat/a.png", 0), ("cat/b.png", 0), ("cat/deep/c.png", 0), ("dog/2.png", 1)]);
    assert_eq!(dataset.warnings, []);
    let read = dataset.read(1, &Budget::default()).unwrap();
    assert_eq!(read.data(), picture("cat/b.png").data());
}

#[test]
fn split_folders_are_recognised_and_number_classes_alike() {
    let root =
        folder(&[("train/a/1.png", ""), ("train/b/1.png", ""), ("validation/b/2.png", ""), ("test/c/3.png", "")]);
    let all = open(&root);
    assert_eq!(all.classes, ["a", "b", "c"]);
    assert_eq!(all.len(), 4);
    assert!(all.warnings[0].to_string().contains("all splits are taken together"), "{:?}", all.warnings);
    let val = Dataset::open(&root, &split("val")).unwrap();
    assert_eq!(files(&val), [("validation/b/2.png", 1)]);
    assert_eq!(val.samples[0].split.as_deref(), Some("val"));
    let message = error(&root, &split("holdout"));
    assert!(message.contains("no split `holdout`") && message.contains("train (2)"), "{message}");
}

#[test]
fn folder_names_are_looked_up_among_class_names() {
    let root = folder(&[("tabby_cat/1.png", ""), ("Dog/1.png", "")]);
    let dataset = Dataset::open(&root, &names(&["dog", "fox", "tabby cat"])).unwrap();
    assert_eq!(files(&dataset), [("Dog/1.png", 0), ("tabby_cat/1.png", 2)]);
    assert!(dataset.warnings[0].to_string().contains("1 of 3 classes have no pictures: fox"), "{:?}", dataset.warnings);
    let message = error(&root, &names(&["dog", "fox"]));
    assert!(message.contains("tabby_cat") && message.contains("rename"), "{message}");
    let guessed = Dataset::open(&root, &names(&["x", "y"])).unwrap();
    assert!(guessed.warnings[0].to_string().contains("Dog is x"), "{:?}", guessed.warnings);
    assert!(error(&root, &names(&["x", "y", "z"])).contains("none of the 2 folders"));
}

#[test]
fn empty_classes_single_classes_and_stray_files_are_told() {
    let root = folder(&[("a/1.png", ""), ("a/notes.txt", "x"), ("a/.hidden.png", ""), ("b/readme.md", "x")]);
    let warnings: Vec<String> = open(&root).warnings.iter().map(ToString::to_string).collect();
    assert!(warnings.iter().any(|w| w.contains("2 files without the ending of a picture")), "{warnings:?}");
    assert!(warnings.iter().any(|w| w.contains("1 of 2 classes have no pictures: b")), "{warnings:?}");
    assert!(warnings.iter().any(|w| w.contains("all 1 pictures are of one class, a")), "{warnings:?}");
}

#[test]
fn folders_without_pictures_and_paths_without_folders_are_errors() {
    assert!(error(folder(&[("a/x.txt", "")]), &DatasetOptions::default()).contains("no pictures"));
    assert!(error(folder(&[]), &DatasetOptions::default()).contains("no sub-folders"));
    assert!(error("/nonexistent/place", &DatasetOptions::default()).contains("/nonexistent/place"));
    let (_folder, path) = table("list.txt", "hello");
    assert!(error(path, &DatasetOptions::default()).contains(".csv"));
}

#[test]
#[cfg(unix)]
fn a_link_that_leads_back_is_followed_once() {
    let root = folder(&[("a/1.png", ""), ("b/1.png", "")]);
    std::os::unix::fs::symlink(root.path().join("a"), root.path().join("a/again")).unwrap();
    assert_eq!(open(&root).len(), 2);
}

#[test]
fn csv_takes_a_byte_order_mark_crlf_and_quoted_commas() {
    let text = "\u{feff}file_name,label,group,split\r\na.png,yes,g2,train\r\n\"c, d.png\",\"no, not\",g1,test\r\n";
    let (_folder, path) = table("list.csv", text);
    let dataset = open(path);
    assert_eq!(dataset.format, Format::Csv);
    assert_eq!(dataset.classes, ["no, not", "yes"]);
    assert_eq!(dataset.groups, ["g1", "g2"]);
    let last = Sample { file: "c, d.png".into(), label: 0, group: Some(0), split: Some("test".into()), unit: None };
    assert_eq!(dataset.samples[1], last);
    assert_eq!(dataset.read(1, &Budget::default()).unwrap().data(), picture("c, d.png").data());
}

#[test]
fn csv_with_tabs_or_semicolons_is_read() {
    for separator in ["\t", ";"] {
        let (_folder, path) = table("list.csv", &format!("file_name{separator}label\na.png{separator}1\n"));
        assert_eq!(files(&open(path)), [("a.png", 1)]);
    }
}

#[test]
fn numeric_labels_are_indices_and_keep_their_names() {
    let (_folder, path) = table("list.csv", "file_name,label\na.png,2\nb.png,0.0\n");
    assert_eq!(open(&path).classes, ["class 0", "class 1", "class 2"]);
    assert_eq!(Dataset::open(&path, &names(&["x", "y", "z"])).unwrap().classes, ["x", "y", "z"]);
    let message = error(&path, &names(&["x", "y"]));
    assert!(message.contains("line 2") && message.contains("label 2 has no class name"), "{message}");
    // Class names that are digits are words first.
    assert_eq!(files(&Dataset::open(&path, &names(&["2", "1", "0.0"])).unwrap()), [("a.png", 0), ("b.png", 2)]);
}

#[test]
fn bad_labels_are_errors_that_name_the_line() {
    for (label, said) in
        [("NaN", "`NaN`"), ("nan", "`nan`"), ("", "empty"), ("-1", "negative"), ("5000000", "too large")]
    {
        let message = csv_error(&format!("file_name,label\na.png,0\nb.png,{label}\n"));
        assert!(message.contains("line 3") && message.contains(said), "{label}: {message}");
        assert!(message.contains("list.csv"), "{message}");
    }
    let (_folder, path) = table("list.csv", "file_name,label\na.png,cat\nb.png,dgo\n");
    let message = error(path, &names(&["cat", "dog"]));
    assert!(message.contains("line 3") && message.contains("`dgo` is none of the 2 class names"), "{message}");
}

#[test]
fn broken_tables_are_errors_that_say_what_is_wrong() {
    let message = csv_error("picture,kind\na.png,0\n");
    assert!(message.contains("no column for the file name; found picture, kind; name it file_name"), "{message}");
    assert!(csv_error("file_name\na.png\n").contains("no column for the label"));
    assert!(csv_error("file_name,label\n").contains("no rows"));
    assert!(csv_error("").contains("no column"));
    let message = csv_error("file_name,label\na.png,0\nb.png,0,1\n");
    assert!(message.contains("line 3") && message.contains("3 columns"), "{message}");
    let root = folder(&[("a.png", "")]);
    fs::write(root.path().join("list.csv"), b"file_name,label\na.png,caf\xe9\n").unwrap();
    assert!(error(root.path().join("list.csv"), &DatasetOptions::default()).contains("not UTF-8"));
}

#[test]
fn names_that_leave_the_folder_are_refused() {
    for name in
        ["../a.png", "x/../../a.png", "/etc/passwd", "C:\\a.png", "..\\a.png", "\\\\host\\a.png", "x\\..\\..\\a"]
    {
        let message = csv_error(&format!("file_name,label\n{name},0\n"));
        assert!(message.contains("line 2") && message.contains(name), "{message}");
        assert!(message.contains("relative to the table's folder"), "{message}");
    }
    assert!(csv_error("file_name,label\n\"\",0\n").contains("empty"));
}

#[test]
fn markup_in_names_is_only_data() {
    let name = "<script>alert(1)<'script>.png";
    let root = folder(&[(name, "")]);
    fs::write(root.path().join("list.csv"), format!("file_name,label\n{name},<b>\n")).unwrap();
    let dataset = open(root.path().join("list.csv"));
    assert_eq!((files(&dataset)[0].0, dataset.classes[0].as_str()), (name, "<b>"));
    assert!(dataset.read(0, &Budget::default()).is_ok());
}

#[test]
fn an_address_is_never_opened_and_said_to_be_one() {
    let mixed = "file_name,label\na.png,cat\nb.png,dog\nhttps://example.com/c.png,cat\ns3://bucket/d.png,dog\n";
    // A file that the address would be, were it a path.
    let folder = folder(&[("metadata.csv", mixed), ("a.png", ""), ("b.png", ""), ("https:/example.com/c.png", "")]);
    let dataset = open(folder.path());
    assert_eq!(files(&dataset), [("a.png", 0), ("b.png", 1)]);
    let said = dataset
        .warnings
        .iter()
        .map(ToString::to_string)
        .find(|w| w.starts_with("2 of 4 pictures are addresses"))
        .unwrap();
    assert!(
        said.contains("https://example.com/c.png, s3://bucket/d.png") && said.contains("fetch the files"),
        "{said}"
    );
    let only = csv_error("file_name,label\nhttps://example.com/a.png,cat\nfile:///etc/passwd,dog\n");
    assert!(only.contains("all of its 2 pictures are addresses, for example https://example.com/a.png"), "{only}");
    assert!(only.contains("never opened"), "{only}");
    let not = csv_error("file_name,label\na b://c.png,cat\n");
    assert!(not.contains("none of its 1 pictures is there"), "no scheme holds a space: {not}");
}

#[test]
fn missing_files_are_left_out_and_named() {
    let (_folder, path) = table("list.csv", "file_name,label\na.png,0\ngone.png,1\nb.png,1\na.png,0\n");
    let dataset = open(path);
    assert_eq!(files(&dataset), [("a.png", 0), ("b.png", 1), ("a.png", 0)]);
    assert!(dataset.warnings.iter().any(|w| w.to_string() == "1 of 4 pictures are missing and left out: gone.png"));
    assert!(dataset.warnings.iter().any(|w| w.to_string() == "1 pictures are listed more than once: a.png"));
    let message = csv_error("file_name,label\nx.png,0\ny.png,1\n");
    assert!(message.contains("none of its 2 pictures") && message.contains("x.png"), "{message}");
}

#[test]
fn wilds_metadata_gives_groups_of_class_and_place() {
    let text = ",img_id,img_filename,y,split,place,place_filename\n\
        0,1,a.png,0,0,0,x\n1,2,b.png,0,1,1,x\n2,3,\"c, d.png\",1,2,1,x\n";
    let (root, _) = table("metadata.csv", text);
    let dataset = open(root.path());
    assert_eq!(dataset.format, Format::Wilds);
    let groups: Vec<_> = dataset.samples.iter().map(|sample| sample.group).collect();
    assert_eq!(groups, [Some(0), Some(1), Some(3)]);
    assert_eq!(dataset.groups, ["class 0 · place 0", "class 0 · place 1", "class 1 · place 0", "class 1 · place 1"]);
    let splits: Vec<_> = dataset.samples.iter().map(|sample| sample.split.as_deref().unwrap()).collect();
    assert_eq!(splits, ["train", "val", "test"]);
    let test = Dataset::open(root.path(), &split("test")).unwrap();
    assert_eq!(test.samples[0].group, Some(3));
    assert_eq!(test.groups.len(), 4);
}

#[test]
fn wilds_names_of_classes_and_places_are_used() {
    let text = "img_filename,y,y_name,split,place,place_name\na.png,1,waterbird,0,1,water\nb.png,0,landbird,0,0,land\n";
    let (root, _) = table("metadata.csv", text);
    let dataset = open(root.path());
    assert_eq!(dataset.classes, ["landbird", "waterbird"]);
    assert_eq!(dataset.groups[3], "waterbird · water");
    assert!(csv_error("img_filename,y,y_name\na.png,0,x\nb.png,0,z\n").contains("class 0 is called `z` here"));
}

#[test]
fn json_lines_are_read_like_csv() {
    let text = "\u{feff}{\"file_name\": \"a.png\", \"label\": \"x\", \"group\": 1}\r\n\n{\"file_name\": \"b.png\", \"label\": \"y\"}";
    let (root, _) = table("metadata.jsonl", text);
    let dataset = open(root.path());
    assert_eq!(dataset.format, Format::JsonLines);
    assert_eq!(files(&dataset), [("a.png", 0), ("b.png", 1)]);
    assert_eq!(dataset.samples[0].group, Some(1));
    assert!(
        dataset.warnings.iter().any(|w| w.to_string() == "1 of 2 pictures have no group"),
        "{:?}",
        dataset.warnings
    );
    for (line, said) in [
        ("{\"file_name\": \"a.png\"}", "no label; found file_name"),
        ("{\"file_name\": \"a.png\", \"label\": null}", "label is empty"),
        ("{\"file_name\": \"a.png\", \"label\": [1]}", "list or an object"),
        ("[1]", "expected an object"),
        ("{\"file_name\": ", "not valid JSON"),
    ] {
        let (_folder, path) = table("list.jsonl", &format!("{{\"file_name\": \"b.png\", \"label\": 0}}\n{line}\n"));
        let message = error(path, &DatasetOptions::default());
        assert!(message.contains("line 2") && message.contains(said), "{message}");
    }
}

#[test]
fn content_hash_is_of_the_content() {
    let root = folder(&[("a/1.png", ""), ("a/2.png", ""), ("b/1.png", "")]);
    fs::copy(root.path().join("a/1.png"), root.path().join("b/1.png")).unwrap();
    let dataset = open(&root);
    let hash = |index| dataset.content_hash(index, &Budget::default()).unwrap();
    assert_eq!(hash(0), hash(2));
    assert_ne!(hash(0), hash(1));
    assert_eq!(hash(0).len(), 64);
}

#[test]
fn a_sample_that_is_not_there_is_an_error() {
    let root = folder(&[("a/1.png", ""), ("b/1.png", "")]);
    let dataset = Arc::new(open(&root));
    assert!(dataset.read(2, &Budget::default()).unwrap_err().to_string().contains("the data set has 2"));
    fs::remove_file(root.path().join("a/1.png")).unwrap();
    assert!(dataset.read(0, &Budget::default()).unwrap_err().to_string().contains("a/1.png: no such file"));
}

fn with(reading: Reading) -> DatasetOptions {
    DatasetOptions { reading, ..DatasetOptions::default() }
}

#[test]
fn headers_are_read_whatever_their_case_and_whatever_stands_between_their_words() {
    let (_folder, path) = table("t.csv", "FileName,Label\na.png,cat\nb.png,dog\n");
    assert_eq!(files(&open(path)), [("a.png", 0), ("b.png", 1)]);
}

#[test]
fn backslashes_part_folders_where_no_file_is_called_so() {
    let folder = folder(&[
        ("t.csv", "file_name,label\npics\\a.png,cat\npics\\b.png,dog\n"),
        ("pics/a.png", ""),
        ("pics/b.png", ""),
    ]);
    assert_eq!(files(&open(folder.path().join("t.csv"))), [("pics/a.png", 0), ("pics/b.png", 1)]);
}

#[test]
fn absolute_names_may_lie_in_the_data_sets_folder_or_in_the_root_that_is_given() {
    let pictures = folder(&[("a.png", ""), ("deep/b.png", "")]);
    let root = pictures.path().to_path_buf();
    let rows = format!("file_name,label\n{0}/a.png,cat\n{0}/deep/b.png,dog\n", root.display());
    fs::write(root.join("t.csv"), &rows).unwrap();
    assert_eq!(files(&open(root.join("t.csv"))), [("a.png", 0), ("deep/b.png", 1)]);
    let elsewhere = folder(&[("t.csv", rows.as_str())]);
    let refused = error(elsewhere.path().join("t.csv"), &DatasetOptions::default());
    assert!(refused.contains("absolute"), "{refused}");
    let options = with(Reading { root: Some(root), ..Reading::default() });
    let found = Dataset::open(elsewhere.path().join("t.csv"), &options).unwrap();
    assert_eq!(files(&found), [("a.png", 0), ("deep/b.png", 1)]);
    assert!(found.read(1, &Budget::default()).is_ok());
}

#[test]
fn celebas_columns_are_read_by_their_names_and_signs_are_no_and_yes() {
    let (_folder, path) = table("t.csv", "image_id,Blond_Hair,Male,partition\na.png,-1,-1,0\nb.png,1,1,2\n");
    let reading =
        Reading { label_column: Some("Blond_Hair".into()), group_columns: vec!["Male".into()], ..Reading::default() };
    let found = Dataset::open(&path, &with(reading)).unwrap();
    assert_eq!(files(&found), [("a.png", 0), ("b.png", 1)]);
    let splits: Vec<_> = found.samples.iter().map(|s| s.split.as_deref().unwrap()).collect();
    assert_eq!(splits, ["train", "test"]);
    assert!(found.samples.iter().all(|s| s.group.is_some()));
    assert!(found.warnings.contains(&DatasetWarning::Signs));
    let missing = error(&path, &with(Reading { label_column: Some("Hat".into()), ..Reading::default() }));
    assert!(missing.contains("no column `Hat`") && missing.contains("Blond_Hair"), "{missing}");
}

#[test]
fn a_column_a_class_holds_one_in_that_of_the_picture() {
    let content = "image,cat,dog\na.png,1.0,0.0\nb.png,0,1\n";
    let (_folder, path) = table("t.csv", content);
    let found = Dataset::open(&path, &names(&["dog", "cat"])).unwrap();
    assert_eq!(files(&found), [("a.png", 1), ("b.png", 0)]);
    let both = csv_error("image,cat,dog\na.png,1,1\n");
    assert!(both.contains("line 2") && both.contains("expected 1 in one of them"), "{both}");
}

#[test]
fn groups_that_span_classes_are_told_and_divided_where_that_is_asked_for() {
    let content = "file_name,label,group\na.png,cat,0\nb.png,dog,0\n\"c, d.png\",dog,1\n";
    let (_folder, path) = table("t.csv", content);
    let plain = open(&path);
    assert_eq!(plain.groups, ["group 0", "group 1"]);
    assert!(plain.warnings.contains(&DatasetWarning::GroupsSpanClasses { count: 1, all: 2, crossed: false }));
    let crossed = Dataset::open(&path, &with(Reading { crossed: Some(true), ..Reading::default() })).unwrap();
    let groups: Vec<&str> = crossed.samples.iter().map(|s| crossed.groups[s.group.unwrap()].as_str()).collect();
    assert_eq!(groups, ["cat · group 0", "dog · group 0", "dog · group 1"]);
    let quiet = Dataset::open(&path, &with(Reading { crossed: Some(false), ..Reading::default() })).unwrap();
    assert!(!quiet.warnings.iter().any(|w| matches!(w, DatasetWarning::GroupsSpanClasses { .. })));
}

#[test]
fn folders_named_by_synset_are_found_in_a_synset_list() {
    let folder = folder(&[("n01484850/a.png", ""), ("n01440764/b.png", "")]);
    let lines = ["n01440764 circle, extra name", "n01443537 cross", "n01484850 square"];
    let found = Dataset::open(folder.path(), &names(&lines)).unwrap();
    assert_eq!(files(&found), [("n01440764/b.png", 0), ("n01484850/a.png", 2)]);
}

#[test]
fn a_folder_that_two_classes_are_called_by_is_refused() {
    let folder = folder(&[("crane/a.png", ""), ("dog/b.png", "")]);
    let refused = error(folder.path(), &names(&["crane", "dog", "crane"]));
    assert!(refused.contains("`crane`") && refused.contains("0: crane, 2: crane"), "{refused}");
}

#[test]
fn folders_named_by_number_have_a_second_order_where_there_are_more_than_ten() {
    let listed: Vec<String> = (0..12).map(|i| format!("{i}/a.png")).collect();
    let content: Vec<(&str, &str)> = listed.iter().map(|name| (name.as_str(), "")).collect();
    let folder = folder(&content);
    let called: Vec<String> = (0..12).map(|i| format!("name {i}")).collect();
    let called: Vec<&str> = called.iter().map(String::as_str).collect();
    let label = |found: &Dataset, folder: &str| {
        found.samples.iter().find(|s| s.file == format!("{folder}/a.png")).unwrap().label
    };
    let by_number = Dataset::open(folder.path(), &names(&called)).unwrap();
    assert_eq!((label(&by_number, "10"), label(&by_number, "2")), (10, 2));
    let (other, map) = by_number.other_order.clone().unwrap();
    // torchvision sorts them as text: 0, 1, 10, 11, 2.
    assert_eq!((other, map[10], map[2]), (FolderOrder::Sorted, 2, 4));
    let reading = Reading { folder_order: Some(FolderOrder::Sorted), ..Reading::default() };
    let sorted = Dataset::open(folder.path(), &DatasetOptions { reading, ..names(&called) }).unwrap();
    assert_eq!((label(&sorted, "10"), label(&sorted, "2"), sorted.other_order.clone()), (2, 4, None));
    let few = self::folder(&[("0/a.png", ""), ("1/a.png", "")]);
    assert_eq!(Dataset::open(few.path(), &names(&["a", "b"])).unwrap().other_order, None);
}

#[test]
fn columns_of_a_parquet_file_make_groups_together_and_one_that_is_not_there_is_refused_by_name() {
    use arrow_array::{ArrayRef, BinaryArray, Int64Array, RecordBatch, StringArray};
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("data.parquet");
    let picture = picture("a.png").to_png().unwrap();
    let columns: [(&str, ArrayRef); 4] = [
        ("image", Arc::new(BinaryArray::from_iter_values((0..4).map(|_| &picture)))),
        ("label", Arc::new(Int64Array::from(vec![0, 1, 0, 1]))),
        ("place", Arc::new(StringArray::from(vec![Some("land"), Some("land"), Some("sea"), None]))),
        ("light", Arc::new(StringArray::from(vec!["day", "night", "day", "day"]))),
    ];
    let batch = RecordBatch::try_from_iter(columns).unwrap();
    let file = fs::File::create(&path).unwrap();
    let mut writer = parquet::arrow::ArrowWriter::try_new(file, batch.schema(), None).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
    let options = |names: &[&str]| {
        let group_columns = names.iter().map(|name| (*name).to_owned()).collect();
        let reading = Reading { group_columns, crossed: Some(false), ..Reading::default() };
        DatasetOptions { reading, ..DatasetOptions::default() }
    };
    let data = Dataset::open(&path, &options(&["place", "light"])).unwrap();
    let names: Vec<Option<&str>> = data.samples.iter().map(|s| s.group.map(|g| data.groups[g].as_str())).collect();
    assert_eq!(names, [Some("land · day"), Some("land · night"), Some("sea · day"), None]);
    let refused = error(&path, &options(&["place", "weather"]));
    assert!(refused.contains("weather") && refused.contains("light"), "{refused}");
}
