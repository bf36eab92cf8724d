"""The HTML report of finished runs: one self-contained page, without network and without a plotting library."""

from mtl.results.report.material import Material, Picture, gather
from mtl.results.report.page import render
from mtl.results.report.pictures import read_picture

__all__ = ["Material", "Picture", "gather", "read_picture", "render"]
