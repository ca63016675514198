"""Images, videos, cameras and streams to key points in files: what `edgepose infer` does."""
