"""Pixels -> embeddings.

base.py                 the protocol of every encoder, and the fingerprint of its weights
normalise.py            pixels -> what a network was trained to see
clip.py                 a CLIP of any kind as an encoder
clip_text.py            CLIP's text tower: prompts -> tokens -> embeddings
siglip_text.py          SigLIP's
remembered_clip.py      a CLIP that was loaded before, known without loading it
clip_files.py           which files make a CLIP
clip_checkpoint.py      a stranger's checkpoint, checked before any library loads it
clip_preprocessing.py   what it wants its images to be
clip_model.py           CLIP and MetaCLIP 2 as modules of PyTorch
siglip_model.py         SigLIP as modules of PyTorch
open_clip.py            a checkpoint of open_clip
known_models.py         models that are known to be of these kinds, and licences
clip_tower.py           an image tower in a precision, from pixels on
openvino.py             the image tower in OpenVINO
int8_file.py            its int8 model, kept in a checkpoint's folder or in the cache's
backends.py             which of the two, and how precisely
hub.py                  `tagger models`: a checkpoint of the hub -> a pinned copy in a folder
pinned.py               the description that such a copy carries
resnet18.py             a fine-tuned ResNet18 as an encoder
resnet18_checkpoint.py  the description in its checkpoint
sketch.py               embeddings -> sketches, by which images that are nearly the same are found
cost.py                 operations and memory of a model, counted without loading it
"""
