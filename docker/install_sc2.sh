#!/usr/bin/env bash
# Installs StarCraft II 4.10 for Linux (headless), SMAC's maps and SMACv2's. Skips what is installed already.
#
#   SC2_PASSWORD=... docker/install_sc2.sh [FOLDER]
#
# FOLDER: where to install; default: SC2PATH, or ~/StarCraftII.
#
# The game's archive is encrypted. Its password is in Blizzard's "AI and Machine Learning License"
# (github.com/Blizzard/s2client-proto, section "Linux Packages"). By giving the password, you agree to
# that license.
#
# SC2_ARCHIVE, MAPS_ARCHIVE: zip files to use instead of downloads (4 GB and a few MB).
# SMACV2_MAP: the file 32x32_flat.SC2Map to use instead of its download.
set -euo pipefail

VERSION=4.10
BUILD=75689 # of version 4.10.0
SC2_ADDRESS="https://blzdistsc2-a.akamaihd.net/Linux/SC2.$VERSION.zip"
MAPS_ADDRESS="https://github.com/oxwhirl/smac/releases/download/v0.1-beta1/SMAC_Maps.zip"
SMACV2_FILE=32x32_flat.SC2Map # all of SMACv2's battles with random teams
SMACV2_ADDRESS="https://github.com/oxwhirl/smacv2/raw/main/smacv2/env/starcraft2/maps/SMAC_Maps/$SMACV2_FILE"

stop() {
    echo "install_sc2.sh: $*" >&2
    exit 1
}

download() { # ADDRESS FILE
    echo "Downloading $1"
    if command -v curl > /dev/null; then
        curl --fail --location --retry 3 --output "$2" "$1"
    elif command -v wget > /dev/null; then
        wget --tries=3 --output-document="$2" "$1"
    else
        echo "install_sc2.sh: curl or wget is needed to download" >&2
        return 1
    fi
}

need() { # as download
    download "$@" || stop "cannot download $1; download it yourself and set SC2_ARCHIVE or MAPS_ARCHIVE to the file"
}

unpack() { # as unzip; its status 1 is a warning, and what matters is checked afterwards
    unzip -q "$@" || [ $? -eq 1 ]
}

[ "$(uname -s)-$(uname -m)" = Linux-x86_64 ] || stop "the headless game runs on Linux on x86-64 only"
command -v unzip > /dev/null || stop "unzip is missing"

folder=${1:-${SC2PATH:-$HOME/StarCraftII}}
mkdir -p "$folder"
folder=$(cd "$folder" && pwd)
# On the target's disk, so that the last step of each part is an atomic rename.
scratch=$(mktemp -d "$folder/.install.XXXXXX")
trap 'rm -rf "$scratch"' EXIT

if [ -e "$folder/Versions" ]; then
    echo "The game is in $folder already"
else
    [ -n "${SC2_PASSWORD:-}" ] || stop "set SC2_PASSWORD to the password in Blizzard's license (see the top of this file)"
    archive=${SC2_ARCHIVE:-$scratch/game.zip}
    [ -n "${SC2_ARCHIVE:-}" ] || need "$SC2_ADDRESS" "$archive"
    unpack -P "$SC2_PASSWORD" "$archive" -d "$scratch/game" || stop "cannot unpack $archive: is the password right?"
    game=$scratch/game/StarCraftII
    [ -x "$game/Versions/Base$BUILD/SC2_x64" ] || stop "$archive does not hold version $VERSION (build $BUILD)"
    # Versions comes last: it marks the game as installed.
    find "$game" -mindepth 1 -maxdepth 1 ! -name Versions -exec cp -Rl {} "$folder" \;
    mv "$game/Versions" "$folder/Versions"
fi

if [ -e "$folder/Maps/SMAC_Maps" ]; then
    echo "SMAC's maps are in $folder already"
else
    archive=${MAPS_ARCHIVE:-$scratch/maps.zip}
    [ -n "${MAPS_ARCHIVE:-}" ] || need "$MAPS_ADDRESS" "$archive"
    unpack "$archive" -d "$scratch/maps" || stop "cannot unpack $archive"
    [ -d "$scratch/maps/SMAC_Maps" ] || stop "$archive holds no SMAC_Maps"
    mkdir -p "$folder/Maps"
    mv "$scratch/maps/SMAC_Maps" "$folder/Maps/SMAC_Maps"
fi

smacv2_map=$folder/Maps/SMAC_Maps/$SMACV2_FILE
if [ -e "$smacv2_map" ]; then
    echo "SMACv2's map is in $folder already"
elif [ -n "${SMACV2_MAP:-}" ]; then
    cp "$SMACV2_MAP" "$scratch/$SMACV2_FILE"
    mv "$scratch/$SMACV2_FILE" "$smacv2_map"
elif download "$SMACV2_ADDRESS" "$scratch/$SMACV2_FILE"; then
    mv "$scratch/$SMACV2_FILE" "$smacv2_map"
else # which SMAC does not need
    echo "install_sc2.sh: cannot download SMACv2's map $SMACV2_ADDRESS; download it yourself and set SMACV2_MAP to the file" >&2
fi

echo "StarCraft II $VERSION with $(find "$folder/Maps/SMAC_Maps" -name '*.SC2Map' | wc -l) maps is in $folder"
[ "$folder" = "$HOME/StarCraftII" ] || echo "Set SC2PATH=$folder to use it"
