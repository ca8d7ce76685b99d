"""What a user is told: the one exception for whatever can be fed in, and the sentence for a lacking package."""


def missing_package(command: str, name: str | None) -> str:
    """What a command says that needs a package of the build environment which is not installed."""
    return (
        f"{command}: the package {name!r} is not installed; expected the build environment. "
        "Make it with `bash install-train.sh` and run this with its python."
    )


class InputError(ValueError):
    """An input that can't be used, said in one sentence: what it is, what was expected, what to do.

    Parameters
    ----------
    subject
        What is wrong: a file's path, an option's name.
    problem
        What was found there.
    expected
        What is accepted instead; may go on with what to do.

    >>> str(InputError("scan.nii.gz", "4-D image (64, 64, 30, 120)", "2-D or 3-D. Pick one volume first."))
    'scan.nii.gz: 4-D image (64, 64, 30, 120); expected 2-D or 3-D. Pick one volume first.'
    """

    def __init__(self, subject: object, problem: str, expected: str):
        self.subject, self.problem, self.expected = str(subject), problem, expected
        super().__init__(f"{subject}: {problem}; expected {expected}")

    def __reduce__(self):
        # a worker process hands it to its parent; the default would call the class with the sentence alone
        return type(self), (self.subject, self.problem, self.expected)
