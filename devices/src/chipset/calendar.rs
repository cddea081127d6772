//! The proleptic Gregorian calendar, as far as a clock chip needs it.

/// A date and time, UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Civil {
    /// 0 to 9999.
    pub year: u16,
    /// 1 to 12.
    pub month: u8,
    /// 1 to 31.
    pub day: u8,
    /// 0 to 23.
    pub hour: u8,
    /// 0 to 59.
    pub minute: u8,
    /// 0 to 59.
    pub second: u8,
    /// 0 is Sunday. Not used by [`Civil::to_unix`].
    pub weekday: u8,
}

/// Days in 400 years, after which the calendar repeats.
const CYCLE: i64 = 146_097;
/// From 0000-01-01 to 1970-01-01.
const DAYS_TO_1970: i64 = 719_528;

fn leap(year: i64) -> bool {
    year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)
}
/// Days from the first of January of year 0 to that of `year`.
fn days_before_year(year: i64) -> i64 {
    let past = year - 1;
    365 * year + past.div_euclid(4) - past.div_euclid(100) + past.div_euclid(400) + 1
}
fn month_lengths(year: i64) -> [i64; 12] {
    [31, if leap(year) { 29 } else { 28 }, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31]
}

impl Civil {
    /// The date of a Unix time; years are taken modulo 10,000.
    pub fn of_unix(unix: i64) -> Self {
        let (days, rest) = (unix.div_euclid(86_400), unix.rem_euclid(86_400));
        let since_0 = days + DAYS_TO_1970;
        let (cycles, day) = (since_0.div_euclid(CYCLE), since_0.rem_euclid(CYCLE));
        let mut year = day / 366; // never too late, at most one too early per 400 years
        while days_before_year(year + 1) <= day {
            year += 1;
        }
        let mut left = day - days_before_year(year);
        let mut month = 1;
        for length in month_lengths(year) {
            if left < length {
                break;
            }
            left -= length;
            month += 1;
        }
        Self {
            year: (cycles * 400 + year).rem_euclid(10_000) as u16,
            month,
            day: left as u8 + 1,
            hour: (rest / 3600) as u8,
            minute: (rest / 60 % 60) as u8,
            second: (rest % 60) as u8,
            weekday: (days + 4).rem_euclid(7) as u8, // 1970-01-01 was a Thursday
        }
    }

    /// The Unix time. Values out of range (a guest can write any) carry over into the next unit;
    /// months are clamped.
    pub fn to_unix(self) -> i64 {
        let year = i64::from(self.year);
        let month = usize::from(self.month.clamp(1, 12));
        let in_year: i64 = month_lengths(year)[..month - 1].iter().sum();
        let days = days_before_year(year) + in_year + i64::from(self.day) - 1 - DAYS_TO_1970;
        days * 86_400 + i64::from(self.hour) * 3600 + i64::from(self.minute) * 60 + i64::from(self.second)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ymd(unix: i64) -> (u16, u8, u8, u8) {
        let c = Civil::of_unix(unix);
        (c.year, c.month, c.day, c.weekday)
    }

    #[test]
    fn known_dates() {
        assert_eq!(ymd(0), (1970, 1, 1, 4));
        assert_eq!(ymd(951_782_400), (2000, 2, 29, 2));
        assert_eq!(ymd(951_868_800), (2000, 3, 1, 3));
        assert_eq!(ymd(4_107_542_400), (2100, 3, 1, 1));
        assert_eq!(ymd(1_735_603_200), (2024, 12, 31, 2));
        assert_eq!(ymd(-1), (1969, 12, 31, 3));
        let c = Civil::of_unix(1_000_000_000);
        assert_eq!((c.year, c.month, c.day, c.hour, c.minute, c.second), (2001, 9, 9, 1, 46, 40));
    }

    #[test]
    fn every_day_of_400_years_goes_there_and_back() {
        let mut last = Civil::of_unix(-86_400);
        for day in 0..CYCLE {
            let c = Civil::of_unix(day * 86_400);
            assert_eq!(c.to_unix(), day * 86_400);
            assert_eq!(c.weekday, (last.weekday + 1) % 7);
            assert!((c.year, c.month, c.day) > (last.year, last.month, last.day));
            last = c;
        }
    }

    #[test]
    fn nonsense_is_survived() {
        let junk = Civil { year: 16_665, month: 0, day: 0, hour: 255, minute: 255, second: 255, weekday: 9 };
        Civil::of_unix(junk.to_unix());
        Civil::of_unix(i64::MAX);
        Civil::of_unix(i64::MIN);
    }
}
