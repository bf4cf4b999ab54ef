"""TensorFlow as the settings of a run want it: threads, determinism, without its noise."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from ..config import RunConfig
from ..errors import require
from ..native_log import native_noise, set_environment

NEW_PROCESS = "Only a new process can change it."


@contextmanager
def tensorflow_runtime(settings: RunConfig) -> Iterator[None]:
    """TensorFlow without its noise, set up as the settings say; Keras and the logs are put back at the end.

    Raises `UserError` where it runs already, in this process, with settings that cannot be changed any more.
    """
    set_environment()
    with native_noise():
        import keras
        import tensorflow as tf

        _set_threads(settings.threads)
        _set_determinism(settings.deterministic)
        if settings.jobs > 1 or settings.engine != "local":
            with suppress(RuntimeError):  # it has taken them already, in a process that did other work before
                tf.config.set_visible_devices([], "GPU")  # they are for the jobs
        tf.config.list_physical_devices()
    interactive = keras.config.is_interactive_logging_enabled()
    # Keras logs through absl that .h5 is an old format; short trainings one after another look like retracing
    loggers = [logging.getLogger("absl"), tf.get_logger()]
    levels = [logger.level for logger in loggers]
    keras.config.disable_interactive_logging()  # "Downloading data from ..." on stdout
    for logger in loggers:
        logger.setLevel("ERROR")
    try:
        yield
    finally:
        if interactive:
            keras.config.enable_interactive_logging()
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _set_threads(threads: int | None) -> None:
    import tensorflow as tf

    if threads is None:
        return
    try:
        tf.config.threading.set_intra_op_parallelism_threads(threads)
        tf.config.threading.set_inter_op_parallelism_threads(threads)
    except RuntimeError:
        running = tf.config.threading.get_intra_op_parallelism_threads() or "its own choice"
        rule = f"what TensorFlow runs with here, {running}"
        require(False, "--threads", rule, threads, NEW_PROCESS)


def _set_determinism(deterministic: bool) -> None:
    import tensorflow as tf
    from tensorflow.python.eager.context import context
    from tensorflow.python.framework.config import is_op_determinism_enabled

    enabled = is_op_determinism_enabled()
    if deterministic and not context()._initialized:
        tf.config.experimental.enable_op_determinism()
    elif deterministic != enabled:
        rule = f"{'on' if enabled else 'off'}, as TensorFlow runs here"
        require(False, "--deterministic", rule, deterministic, NEW_PROCESS)
