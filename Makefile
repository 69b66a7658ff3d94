# The two commands: `make demo` and `make test`. Each sets up .venv first (Python 3.11 or 3.12 and a C compiler).

PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/python

.PHONY: demo test lint benchmarks pictures clean

demo: $(VENV)/ready
	$(RUN) -m Testing.demo --out demo $(if $(INPUT),--input "$(INPUT)") $(if $(SEGMENTATION),--segmentation "$(SEGMENTATION)") \
		$(if $(MODALITY),--modality $(MODALITY)) $(if $(UNITS),--units $(UNITS))

test: $(VENV)/ready lint
	$(RUN) -m pytest -n 2 --dist loadfile

lint: $(VENV)/ready
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .

benchmarks: $(VENV)/ready
	$(RUN) -m Testing.benchmarks.case_times

# torch comes first and pinned: any other release would bring gigabytes of CUDA. The fork of pyradiomics is compiled.
$(VENV)/ready: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(RUN) -m pip install --quiet --upgrade pip
	$(RUN) -m pip install --quiet torch==2.13.0
	CMAKE_ARGS=-DFORCE_DISABLE_CUDA=ON $(RUN) -m pip install --quiet -e '.[networks,openvino,attribution,cluster,pyradiomics,demo,development]'
	touch $@

# The pictures of the README: the panel as the tests leave it, the report as a browser shows it (needs chromium).
pictures: demo
	HARMONIZE_PICTURES=Resources/Pictures $(RUN) -m pytest -q Testing/gui -k picture
	chromium --headless --no-sandbox --disable-gpu --hide-scrollbars --window-size=1250,1080 \
		--screenshot=Resources/Pictures/report.png "file://$(CURDIR)/demo/report.html"
	rm -rf demo/study demo/cohort
	$(VENV)/bin/harmonize phantom brain --people 12 --scanners "Siemens 3T" "GE 1.5T" --spacing 2 --seed 3 --out demo/study
	cd demo && ../$(VENV)/bin/harmonize cohort study/manifest.csv --method histogram-matching \
		--target study/person_001/Siemens_3T.nii.gz --measure "white matter" --processes 2 --out cohort
	chromium --headless --no-sandbox --disable-gpu --hide-scrollbars --window-size=1250,1180 \
		--screenshot=Resources/Pictures/cohort_report.png "file://$(CURDIR)/demo/cohort/report.html"

clean:
	rm -rf $(VENV) demo build *.egg-info
