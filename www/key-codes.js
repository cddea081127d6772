// Places on the keyboard: the browser's names for them (UI Events KeyboardEvent code Values) and Linux's numbers
// (include/uapi/linux/input-event-codes.h), which are what the machine's keyboards speak of.

/** Runs of names whose numbers follow one another, by the first number; "-" is a number without a name. */
const RUNS = /** @type {const} */ ({
  1: 'Escape Digit1 Digit2 Digit3 Digit4 Digit5 Digit6 Digit7 Digit8 Digit9 Digit0 Minus Equal Backspace',
  15: 'Tab KeyQ KeyW KeyE KeyR KeyT KeyY KeyU KeyI KeyO KeyP BracketLeft BracketRight Enter',
  29: 'ControlLeft KeyA KeyS KeyD KeyF KeyG KeyH KeyJ KeyK KeyL Semicolon Quote Backquote',
  42: 'ShiftLeft Backslash KeyZ KeyX KeyC KeyV KeyB KeyN KeyM Comma Period Slash ShiftRight NumpadMultiply',
  56: 'AltLeft Space CapsLock F1 F2 F3 F4 F5 F6 F7 F8 F9 F10 NumLock ScrollLock',
  71: 'Numpad7 Numpad8 Numpad9 NumpadSubtract Numpad4 Numpad5 Numpad6 NumpadAdd Numpad1 Numpad2 Numpad3 Numpad0 NumpadDecimal',
  85: 'Lang5 IntlBackslash F11 F12 IntlRo Lang3 Lang4 Convert KanaMode NonConvert',
  96: 'NumpadEnter ControlRight NumpadDivide PrintScreen AltRight - Home ArrowUp PageUp ArrowLeft ArrowRight End ArrowDown PageDown Insert Delete',
  113: 'AudioVolumeMute AudioVolumeDown AudioVolumeUp Power NumpadEqual NumpadChangeSign Pause',
  121: 'NumpadComma Lang1 Lang2 IntlYen MetaLeft MetaRight ContextMenu BrowserStop Again Props Undo - Copy Open Paste Find Cut Help',
  140: 'LaunchApp2 - Sleep WakeUp LaunchApp1',
  155: 'LaunchMail BrowserFavorites - BrowserBack BrowserForward - Eject - MediaTrackNext MediaPlayPause MediaTrackPrevious MediaStop',
  171: 'MediaSelect BrowserHome BrowserRefresh',
  179: 'NumpadParenLeft NumpadParenRight - - F13 F14 F15 F16 F17 F18 F19 F20 F21 F22 F23 F24',
  217: 'BrowserSearch',
  224: 'BrightnessDown BrightnessUp',
  464: 'Fn',
});

/** Older names that some browsers still use. */
const ALIASES = { OSLeft: 'MetaLeft', OSRight: 'MetaRight', VolumeMute: 'AudioVolumeMute', VolumeDown: 'AudioVolumeDown', VolumeUp: 'AudioVolumeUp' };

/** Linux's number of a key by `KeyboardEvent.code`. @type {ReadonlyMap<string, number>} */
export const KEY_CODES = (() => {
  /** @type {Map<string, number>} */
  const codes = new Map();
  for (const [first, names] of Object.entries(RUNS)) {
    names.split(' ').forEach((name, n) => {
      if (name !== '-') codes.set(name, Number(first) + n);
    });
  }
  for (const [old, name] of Object.entries(ALIASES)) codes.set(old, /** @type {number} */ (codes.get(name)));
  return codes;
})();
