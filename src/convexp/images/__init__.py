"""Pictures of what a run has seen and learnt. Knows no MLflow.

    picture.py      what a picture is
    filters.py      the filters of a convolution as tiles
    curves.py       loss and accuracy over the course of a training
    confusion.py    which classes are taken for which
    tiles.py        pictures side by side, with words below
    judged.py       images, what they are, and what they are taken for
    saliency.py     images, and which of their pixels matter
    classes.py      images made to please a class
    activations.py  what each layer makes of an image
    photographs.py  photographs, and what filters make of them
    reading.py      photographs from files, as a network takes them
    predictions.py  images, and what a network takes them for

matplotlib is imported when a figure is drawn: that takes a third of a second, and a run without
pictures needs none of it.
"""

from convexp.images.activations import activations_figure
from convexp.images.classes import classes_figure
from convexp.images.confusion import confusion_figure
from convexp.images.curves import History, learning_curves
from convexp.images.filters import filter_grid, filters_figure
from convexp.images.judged import judged_figure
from convexp.images.photographs import filtered_figure, picture_format, square
from convexp.images.picture import Picture, as_png, rasterized, upscale
from convexp.images.predictions import predictions_figure
from convexp.images.reading import Photographs, photographs
from convexp.images.saliency import saliency_figure

__all__ = [
    "History",
    "Photographs",
    "Picture",
    "activations_figure",
    "as_png",
    "classes_figure",
    "confusion_figure",
    "filter_grid",
    "filtered_figure",
    "filters_figure",
    "judged_figure",
    "learning_curves",
    "photographs",
    "picture_format",
    "predictions_figure",
    "rasterized",
    "saliency_figure",
    "square",
    "upscale",
]
