"""From a folder of images to breasts: folder scan, headers, labels, pairing, manifests.

:func:`fvpipe.flow.index` calls these modules in this order:

- ``files``: files of the input folder that could be images; header, digest and pixels of each, read on the workers.
- ``labels``: what label tables and paths say of images and breasts, joined to the files and to the exams that are imaged.
- ``key_objects``: Key Object documents that reject images.
- ``lesion_masks``: masks of lesions beside the images, as boxes.
- ``pairing``: CC and MLO of each breast, also where it has several of one view; ``notes`` on what is not rejected.
- ``exams``: order of a patient's exams.
- ``index``: all of it as one value; ``rejections`` and ``known_facts`` summarize it for the screen.
- ``manifests``: the tables of an index, as they are written and read back.

``single_files`` does the same for files that are given to `fvpipe inspect` and `fvpipe predict`.
"""
