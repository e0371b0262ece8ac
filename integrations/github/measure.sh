#!/usr/bin/env bash
# Measures $JOB, has it judged, and writes what the workflow shows. Exits with the verdict's code.
# The judge is the service at $NOISEFLOOR_URL, or, without one, the job's policy with $BASELINE_FILE.
set -uo pipefail

results=noisefloor-results
summary="${GITHUB_STEP_SUMMARY:-/dev/null}"
outputs="${GITHUB_OUTPUT:-/dev/null}"

fail() {
  echo "::error title=Noisefloor::$1"
  printf '## Could not evaluate\n\n%s\n' "$1" >>"$summary"
  echo "verdict=error" >>"$outputs"
  exit 2
}

if [ -z "${NOISEFLOOR_TOKEN:-}" ]; then unset NOISEFLOOR_TOKEN; fi
if [ -n "${NOISEFLOOR_URL:-}" ] && [ -n "${BASELINE_FILE:-}" ]; then
  fail "Give either url, where the service judges, or baseline-file."
fi

rm -rf "$results"
mkdir "$results"
report="$results/report.json"
measure=(noisefloor run --format json)
gate=(noisefloor gate "$report" --location "$JOB")
if [ -n "${NOISEFLOOR_URL:-}" ]; then measure+=(--push); fi
if [ -n "${BASELINE_FILE:-}" ]; then gate+=(--baseline-file "$BASELINE_FILE"); fi

"${measure[@]}" -- "$JOB" >"$report"
if [ ! -s "$report" ]; then
  fail "Nothing was measured, or it could not be handed over: the log of this step says why."
fi

code=0
"${gate[@]}" --write "junit=$results/junit.xml" --write "sarif=$results/noisefloor.sarif" \
  --write "markdown=$results/summary.md" || code=$?
if [ ! -s "$results/summary.md" ]; then
  fail "The results could not be judged: the log of this step says why."
fi
cat "$results/summary.md" >>"$summary"

case $code in
  0) verdict=pass ;;
  1) verdict=regressed ;;
  3) verdict=no_baseline ;;
  *) verdict=error ;;
esac
{
  echo "verdict=$verdict"
  echo "report=$report"
  echo "junit=$results/junit.xml"
  echo "sarif=$results/noisefloor.sarif"
} >>"$outputs"
exit "$code"
