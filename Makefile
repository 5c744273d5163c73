# `make` alone prints what there is. Everything is installed into .venv in this folder.
PYTHON ?= python3
ifeq ($(OS),Windows_NT)
VENV_PYTHON := .venv/Scripts/python.exe
else
VENV_PYTHON := .venv/bin/python
endif

.PHONY: help env demo test lint api

help:
	@echo "make demo   train and evaluate YOLOv2 with focal loss on the embedded street scenes"
	@echo "make test   run the tests"
	@echo "make env    only prepare .venv (the others do it by themselves)"
	@echo "make lint   ruff, check and format"
	@echo "make api    the reference, from the docstrings, into work_dirs/api"
	@echo ""
	@echo "The first of them compiles MMCV's ops: 10 to 40 minutes, once per machine."

env:
	@$(PYTHON) tools/prepare.py

demo: env
	@$(VENV_PYTHON) tools/demo.py

# File by file: tests of a file share what is slow to make.
test: env
	@$(VENV_PYTHON) -m pytest -q -n auto --dist loadfile --ignore tests/fuzz
	@$(VENV_PYTHON) -m pytest -q -n auto --dist loadfile tests/fuzz

lint: env
	@$(VENV_PYTHON) -m ruff check .
	@$(VENV_PYTHON) -m ruff format --check .

PARTS := models datasets engine darknet export inference analysis imbalance anchor_clusters \
	focal_analysis study checkpoints detector own_data
api: env
	@$(VENV_PYTHON) -m pip install --quiet 'pdoc>=15'
	@$(VENV_PYTHON) -m pdoc --docformat google --output-directory work_dirs/api \
		mmdet_yolo2fl $(PARTS:%=mmdet_yolo2fl.%)
	@echo "work_dirs/api/index.html"
