"""Statements of label tables and paths, joined to the images: the label of a breast is decided here.

- ``statements``: what they say of each image, before its header is read.
- ``read``: the label tables, with identifiers as the records of headers have them.
- ``breast_labels``: facts of breasts, joined to the exams that are imaged; ``spellings`` says how an identifier that fits
  nothing is misspelled.
- ``rejected_images``: breasts of rejected images whose rows do not name them.
- ``contradictions``: headers that contradict the label tables, or each other.

Where rows about one breast disagree
------------------------------------
A label is decided in these places, from the first to the last. `combine` of a table says what several rows of it may do:
``same`` (they must be equal), ``first`` (labels must be equal; another fact in which they differ is unknown) or ``worst``
(the finding that counts most decides). :mod:`fvpipe.datasets.combine` has the rules.

=====================================================  ==================================  =============================
Function                                               Rows                                Where they disagree
=====================================================  ==================================  =============================
``datasets.declared.contents.FactsByBreast.describe``  of one table, about a breast        error, or by `combine`
``datasets.declared.contents._describe_image``         of one table, by an image's UID     error, or kept for `combine`
``datasets.declared.listed_images.list_image``         of one table, about an image        error, or kept for `combine`
``statements._contradicting_rows``                     about the images of a breast, also  kept for the next step
                                                       of missing and rejected ones
``rejected_images.rows_of_rejected_images``            about a rejected image, where they  kept for the next step
                                                       do not name its breast and exam
``breast_labels.BreastLabels._claims_of_images``       the same, and paths                 by `combine`, else kept
``breast_labels.BreastLabels._of_two_breasts``         about an image of another breast    rejection ``label_ambiguous``
``breast_labels.BreastLabels.matched``                 all that fit an imaged exam, also   rejection ``label_ambiguous``
                                                       one whose images are rejected
=====================================================  ==================================  =============================
"""
