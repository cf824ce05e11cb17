"""From a folder of images to breasts: folder scan, headers, labels, pairing, manifests.

:func:`fvpipe.flow.index` calls these modules in this order:

- ``scan``: files of the input folder that could be images.
- ``statements``: statements of label tables and paths about each image, joined to the files.
- ``read_labels``: the label tables, with identifiers as headers' records have them.
- ``labels``: facts of breasts from the label tables, joined to the exams that are imaged.
- ``headers``: header, digest and pixel digest of each new or changed file, read on the workers.
- ``rejected_images``: breasts of rejected images whose rows do not name them.
- ``rejection_notes``: Key Object documents that reject images.
- ``lesion_masks``: masks of lesions beside the images, as boxes.
- ``contradictions``: headers that contradict the label tables, or each other.
- ``pairing``: CC and MLO of each breast; ``notes`` on what is not rejected.
- ``exams``: order of a patient's exams.
- ``index``: all of it as one value; ``rejections`` and ``known_facts`` summarize it for the screen.
- ``manifest_tables``: the tables of an index, as they are written; ``read_manifests`` reads them back, and ``mammoclean``
  writes another schema.

Where rows about one breast disagree
------------------------------------
A label is decided in these places, from the first to the last. `combine` of a table says what several rows of it may do:
``same`` (they must be equal), ``first`` (labels must be equal; another fact in which they differ is unknown) or ``worst``
(the finding that counts most decides). :mod:`fvpipe.datasets.combine` has the rules.

==================================================  ==================================  =============================
Function                                            Rows                                Where they disagree
==================================================  ==================================  =============================
``datasets.table_contents.FactsByBreast.describe``  of one table, about a breast        error, or by `combine`
``datasets.table_contents._describe_image``         of one table, by an image's UID     error, or kept for `combine`
``datasets.listed_images.list_image``               of one table, about an image        error, or kept for `combine`
``statements._contradicting_rows``                  about the images of a breast, also  kept for the next step
                                                    of missing and rejected ones
``rejected_images.rows_of_rejected``                about a rejected image, where they  kept for the next step
                                                    do not name its breast
``labels.BreastLabels._claims_of_images``           the same, and paths                 by `combine`, else kept
``labels.BreastLabels._of_two_breasts``             about an image of another breast    rejection ``label_ambiguous``
``labels.BreastLabels.matched``                     all that fit an imaged exam, also   rejection ``label_ambiguous``
                                                    one whose images are rejected
==================================================  ==================================  =============================
"""
