// How much console output may be on its way between the worker and the terminal.

/**
 * Console bytes the worker may send ahead of what the terminal has drawn. A guest that prints faster than
 * the browser can draw waits, instead of filling the tab's memory.
 */
export const CONSOLE_WINDOW = 512 * 1024;

/** The terminal reports what it has drawn in portions of about this many bytes. */
export const CONSOLE_ACK = 32 * 1024;
