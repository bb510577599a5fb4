"""scikit-learn estimators: networks trained by inercia's methods, in pipelines and searches.

They need the extra `sklearn`. Training is that of `inercia.train`, in float32 where X is float32 and in float64 else,
as in scikit-learn; predictions are float64 NumPy arrays.
"""

try:
    from inercia.estimator.classifier import MLPClassifier
    from inercia.estimator.regressor import MLPRegressor
except ModuleNotFoundError as error:
    if (error.name or "").split(".")[0] != "sklearn":
        raise
    raise ImportError("the estimators need scikit-learn: pip install 'inercia[sklearn]'.") from None

__all__ = ["MLPClassifier", "MLPRegressor"]
