"""What a name means is told by its scheme, in whatever case."""

from __future__ import annotations

from pathlib import Path

import pytest

from tagger.core.urls import is_object_url, is_remote_image, scheme_of, with_lower_scheme


@pytest.mark.parametrize(
    ("name", "scheme", "is_object", "is_remote"),
    [
        ("s3://Bucket/A.parquet", "s3", True, True),
        ("S3://Bucket/A.parquet", "s3", True, True),
        ("Gs://b/a", "gs", True, True),
        ("HTTPS://CDN.example.com/1.jpg", "https", False, True),
        ("http://cdn.example.com/1.jpg", "http", False, False),
        ("photos/1.jpg", "", False, False),
        ("s3:/photos/1.jpg", "", False, False),
    ],
)
def test_a_scheme_decides(name: str, scheme: str, is_object: bool, is_remote: bool):
    assert (scheme_of(name), is_object_url(name), is_remote_image(name)) == (scheme, is_object, is_remote)


def test_only_the_scheme_is_lowered():
    assert with_lower_scheme("S3://Bucket/A.parquet") == "s3://Bucket/A.parquet"
    assert with_lower_scheme("Photos/A.parquet") == "Photos/A.parquet"
    assert not is_object_url(Path("S3/A.parquet"))
