//! Whole pipelines against real parts; see tests/.
