"""From a reference to pixels.

loader.py            batches of references -> batches of pixels, in order, by processes that decode
reading.py           how images are read: limits, models, processes
resilient_loader.py  the same whatever happens to those processes
thumbnails.py        small pictures for pages, encoded anew
workers.py           how many of them there are, started early
forkserver.py        what the process that they are forked from imports first
decode.py            encoded bytes -> uint8 RGB, resized and cropped as each encoder wants it
jpeg.py              a JPEG made smaller while it is decoded
orientation.py       how a picture is turned upright, whatever its EXIF holds beside
side_information.py  what is left out of a file before a decoder sees it
headers.py           formats and sizes, without the pixels
sources.py           a reference -> encoded bytes, inside the image root
spellings.py         what else a reference may mean that no file has
quality.py           why a picture can be none of a product
prefetch.py          remote images fetched while others are decoded
fetch.py             a remote reference -> encoded bytes, tried again while that may help
https.py             one attempt at https://, from hosts that are listed
object_stores.py     one attempt at s3://, gs:// and az://, from buckets that are listed
transport.py         what the attempts have in common
file_versions.py     which version of an image there is now, without reading it
"""
