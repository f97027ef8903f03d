raise SystemExit("train.py: the regressor is not part of this version yet; fit.py is")
