import js from "@eslint/js";
import globals from "globals";

export default [
  js.configs.recommended,
  {
    // The parts become one script: what one of them does not know, another one does, and tsc sees all of them.
    files: ["**/src/dashboard/page/*.js"],
    languageOptions: { sourceType: "script", ecmaVersion: 2024, globals: globals.browser },
    rules: {
      "no-undef": "off",
      "no-unused-vars": ["error", { vars: "local", argsIgnorePattern: "^_" }],
      eqeqeq: "error",
      "no-eval": "error",
      "no-implied-eval": "error",
      "no-new-func": "error",
      "no-var": "error",
      "prefer-const": "error",
      "no-restricted-properties": ["error", ...["innerHTML", "outerHTML", "insertAdjacentHTML", "write"].map((property) => ({ property }))],
      "no-restricted-syntax": ["error", { selector: "Literal[value=/^(javascript:|data:.)/]", message: "No links are made from data." }],
    },
  },
  { files: ["**/tests/page/**/*.mjs"], languageOptions: { globals: { ...globals.node, ...globals.browser } } },
];
