"""What names of folders say, by hand."""

import pytest

from kdtf.prepare.folder_names import (
    is_masks,
    is_part,
    is_patient,
    is_pictures,
    is_subject,
    mask_ending,
    split_of,
    tells_of_masks,
    without_split,
)

SPLITS = {
    "train": "train Train TRAIN training Training trn trainval train_set trainset TrainSet train-data "
    "train01 traindata training_images imgs_train",
    "val": "val Val valid validation VALIDATION dev development val_set ValSet valset validation-data",
    "test": "test Test testing Testing tst test_set testset TestSet test-data test_images evaluation eval "
    "hold-out HeldOut holdout",
}  # fmt: skip


@pytest.mark.parametrize(
    "name, split", [(name, split) for split, own in SPLITS.items() for name in own.split()]
)
def test_names_of_splits(name, split):
    assert split_of(name) == split


@pytest.mark.parametrize(
    "name, split", [("1. Training Set", "train"), ("b. Testing Set", "test"), ("Val Data 2", "val")]
)
def test_names_of_several_words(name, split):
    assert split_of(name) == split


@pytest.mark.parametrize(
    "name",
    [
        "tested",
        "trained",
        "invalid",
        "tr",
        "ts",
        "normal",
        "restrain",
        "stress_test",
        "set",
        "images",
        "1",
        "",
        "validity",
    ],
)
def test_names_of_no_split(name):
    assert split_of(name) is None


def test_a_split_within_a_name():
    assert without_split("train_normal") == ("normal", "train")
    assert without_split("COVID-Testing") == ("covid", "test")
    assert without_split("normal") == ("normal", None) and without_split("train") == ("train", None)


def test_masks():
    assert all(map(is_masks, ("masks", "Mask", "segmentation", "ground_truth", "labels", "Mask images")))
    assert not any(map(is_masks, ("with_mask", "no mask", "lung_masks", "normal", "unmasked")))
    assert all(map(tells_of_masks, ("lung_masks", "masks", "Infection Masks", "ground truth png", "labels")))
    assert not any(map(tells_of_masks, ("label_1_of_pneumonia", "normal", "unmasked", "patient1")))
    endings = {
        "a_mask": "_mask",
        "b (1)_mask_2": "_mask_2",
        "c-Seg": "-Seg",
        "mask": "",
        "dmask": "",
        "e_masked": "",
    }
    assert {stem: mask_ending(stem) for stem in endings} == endings


def test_pictures_patients_and_parts():
    assert all(map(is_pictures, ("images", "Images", "PNG", "img_2", "raw data")))
    assert not any(map(is_pictures, ("normal images", "1", "", "all", "masks")))
    assert all(map(is_patient, ("patient1", "Patient_007", "sub-12", "scan3", "person1_bacteria")))
    assert not any(map(is_patient, ("patient", "n02086240", "grade2", "covid19", "12")))
    assert all(map(is_subject, ("patient1", "n02086240", "P-3", "0001", "123", "1.2.840.113", "01")))
    assert not any(map(is_subject, ("1", "42", "grade2", "covid19", "normal")))
    assert all(map(is_part, ("images_001", "HAM10000_images_part_1", "fold2", "part3")))
    assert not any(map(is_part, ("part", "images", "covid19", "1")))
