"""The one place that knows where zstd comes from. Importing it fails where there is none."""

import sys

if sys.version_info >= (3, 14):
    from compression.zstd import ZstdCompressor as ZstdCompressor
else:
    from backports.zstd import ZstdCompressor as ZstdCompressor

__all__ = ["ZstdCompressor"]
